"""The deployed stack as clients see it: every way that mail takes, on the real cluster, with planted defects."""

from __future__ import annotations

import imaplib
import json
import poplib
import secrets
import smtplib
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(240)]

CLIENT4, CLIENT6 = "198.51.100.7", "2001:db8::7"
GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"


def until(probe: Callable[[], Any], what: str, deadline_s: float = 60.0) -> Any:
    """What ``probe`` returns once it is true."""
    end = time.monotonic() + deadline_s
    while not (found := probe()):
        assert time.monotonic() < end, f"waited {deadline_s:.0f} s for {what}"
        time.sleep(0.3)
    return found


def proxy_header(client: str) -> bytes:
    """PROXY v2 for a TCP connection of ``client`` (haproxy's proxy-protocol.txt, section 2.2)."""
    family = socket.AF_INET6 if ":" in client else socket.AF_INET
    address = socket.inet_pton(family, client)
    body = address + address + struct.pack(">HH", 40000, 25)
    return b"\r\n\r\n\x00\r\nQUIT\n\x21" + (b"\x21" if ":" in client else b"\x11") + struct.pack(">H", len(body)) + body


class ProxiedSMTP(smtplib.SMTP):
    """smtplib that sends a PROXY v2 header first."""

    def __init__(self, host: str, port: int, client: str = CLIENT4) -> None:
        self._client = client
        super().__init__(host, port, local_hostname="client.example.net", timeout=30)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        made = socket.create_connection((host, port), timeout)
        made.sendall(proxy_header(self._client))
        return made


def message(sender: str, rcpt: str, token: str, text: str = "Hello.") -> str:
    return f"From: {sender}\r\nTo: {rcpt}\r\nSubject: {token}\r\nMessage-ID: <{token}@example.net>\r\n\r\n{text}\r\n"


@contextmanager
def mailbox(stack: Any, user: str, *, folder: str = "INBOX", edge: str | None = None) -> Iterator[imaplib.IMAP4]:
    reader = imaplib.IMAP4(edge or stack.edge4, 143, timeout=30)
    try:
        reader.login(user, stack.password)
        reader.select(folder)
        yield reader
    finally:
        reader.logout()


def found_in(stack: Any, user: str, token: str, folder: str = "INBOX", header: str = "SUBJECT") -> bytes | None:
    """The newest mail with ``token`` in ``header`` (TEXT: anywhere); None when there is none."""
    with mailbox(stack, user, folder=folder) as reader:
        numbers = reader.search(None, header, token)[1][0].split()
        if not numbers:
            return None
        return bytes(reader.fetch(numbers[-1].decode(), "(RFC822)")[1][0][1])  # type: ignore[index]


def send_in(stack: Any, rcpt: str, *, text: str = "Hello.", client: str = CLIENT4, edge: str | None = None) -> str:
    """One mail from outside through the generator's port; its token."""
    token = secrets.token_hex(8)
    with ProxiedSMTP(edge or stack.edge4, 10025, client) as smtp:
        smtp.sendmail("outside@example.net", [rcpt], message("outside@example.net", rcpt, token, text))
    return token


def send_out(stack: Any, user: str, rcpt: str, *, tls: bool = False, password: str | None = None) -> str:
    """One mail of an authenticated user; its token."""
    token = secrets.token_hex(8)
    context = ssl._create_unverified_context()  # the certificate's names are the stack tests' business
    smtp = smtplib.SMTP_SSL(stack.edge4, 465, timeout=30, context=context) if tls else smtplib.SMTP(stack.edge4, 587, timeout=30)
    with smtp:
        if not tls:
            smtp.starttls(context=context)
        smtp.login(user, password or stack.password)
        smtp.sendmail(user, [rcpt], message(user, rcpt, token))
    return token


def sink_records(stack: Any, host: str) -> list[dict[str, Any]]:
    text = stack.kubectl("exec", host, "--", "cat", f"/records/{host}.jsonl")
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def sink_mail(stack: Any, token: str, hosts: tuple[str, ...] = ("internet-0", "internet-1")) -> dict[str, Any] | None:
    import base64

    for host in hosts:
        for record in sink_records(stack, host):
            if record["kind"] == "mail" and token.encode() in base64.b64decode(record["message"]):
                return record
    return None


def queue(stack: Any, pod: str) -> dict[str, float]:
    path = f"/api/v1/namespaces/{stack.namespace}/pods/{pod}:9154/proxy/queue"
    return dict(json.loads(stack.kubectl("get", "--raw", path)))


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_mail_from_outside_reaches_the_mailbox_with_its_clients_address(stack: Any, family: str) -> None:
    """T22: on IPv4 and IPv6; the address in the PROXY header is the one that Postfix works with."""
    edge, client = (stack.edge4, CLIENT4) if family == "ipv4" else (stack.edge6, CLIENT6)
    if not edge:
        pytest.skip("not supported here: the edge node has no IPv6 address")
    token = send_in(stack, "user2@example.org", client=client, edge=edge)
    text = until(lambda: found_in(stack, "user2@example.org", token), "the mail in the mailbox")
    assert client.encode() in text
    with mailbox(stack, "user2@example.org", edge=edge) as reader:
        assert reader.search(None, "SUBJECT", token)[1][0]


def test_the_generators_port_wants_a_proxy_header(stack: Any) -> None:
    with pytest.raises((smtplib.SMTPException, OSError)), smtplib.SMTP(stack.edge4, 10025, timeout=20) as smtp:
        smtp.ehlo("no-header.example.net")


def test_the_plain_port_does_not_believe_a_proxy_header(stack: Any) -> None:
    """A client that forges one on port 25 is no client with another address."""
    with socket.create_connection((stack.edge4, 25), 20) as client:
        client.sendall(b"PROXY TCP4 198.51.100.99 198.51.100.99 1 25\r\n")
        text = client.recv(500) + client.recv(500)
    assert b"198.51.100.99" not in text
    assert not text.rstrip().endswith(b"250")


def test_an_unknown_user_is_refused_and_nothing_is_relayed(stack: Any) -> None:
    with ProxiedSMTP(stack.edge4, 10025) as smtp:
        smtp.ehlo()
        smtp.mail("outside@example.net")
        assert smtp.rcpt("nobody@example.org")[0] == 550
        assert smtp.rcpt("somebody@example.com")[0] == 554
        assert smtp.rcpt("user1@example.org")[0] == 250


def test_gtube_goes_to_the_quarantine(stack: Any) -> None:
    spam = send_in(stack, "user3@example.org", text=GTUBE)
    ham = send_in(stack, "user3@example.org", text=GTUBE.replace("XJS", "XJT"))
    until(lambda: found_in(stack, "user3@example.org", spam, "Junk"), "the spam in Junk")
    until(lambda: found_in(stack, "user3@example.org", ham), "the other mail in INBOX")
    assert found_in(stack, "user3@example.org", spam) is None
    assert found_in(stack, "user3@example.org", ham, "Junk") is None


def test_pop3_reads_and_deletes(stack: Any) -> None:
    token = send_in(stack, "user4@example.org")
    until(lambda: found_in(stack, "user4@example.org", token), "the mail in the mailbox")
    reader = poplib.POP3_SSL(stack.edge4, 995, context=ssl._create_unverified_context(), timeout=30)
    reader.user("user4@example.org")
    reader.pass_(stack.password)
    for number in range(1, len(reader.list()[1]) + 1):
        if token.encode() in b"\n".join(reader.retr(number)[1]):
            reader.dele(number)
    reader.quit()
    assert found_in(stack, "user4@example.org", token) is None


@pytest.mark.parametrize("tls", [False, True], ids=["587", "465"])
def test_submission_delivers_to_the_outside_from_the_outbound_pod(stack: Any, tls: bool) -> None:
    token = send_out(stack, "user5@example.org", "friend@example.net", tls=tls)
    record = until(lambda: sink_mail(stack, token), "the mail at the sink")
    pod = json.loads(stack.kubectl("get", "pod", "outbound-0", "-o", "json"))
    assert record["client"] in [one["ip"] for one in pod["status"]["podIPs"]]
    assert record["rcpts"] == ["friend@example.net"]
    assert record["from"] == "user5@example.org"
    assert record["host"] == "internet-0", "the MX with the better preference comes first"


def test_submission_refuses_a_wrong_password(stack: Any) -> None:
    with pytest.raises(smtplib.SMTPAuthenticationError):
        send_out(stack, "user5@example.org", "friend@example.net", password="wrong")


def test_submission_refuses_mail_without_a_login(stack: Any) -> None:
    with smtplib.SMTP(stack.edge4, 587, timeout=30) as smtp:
        smtp.ehlo()
        smtp.mail("user5@example.org")
        assert smtp.rcpt("friend@example.net")[0] in (530, 554)


def test_a_refused_mail_bounces_into_its_senders_mailbox(stack: Any) -> None:
    token = send_out(stack, "user6@example.org", "reject-dot@example.net")
    dsn = until(lambda: found_in(stack, "user6@example.org", token, header="TEXT"), "the bounce")
    assert b"Action: failed" in dsn
    assert b"reject-dot@example.net" in dsn


def test_a_user_lives_on_one_backend_always(stack: Any) -> None:
    """User n on backend n modulo 2, whichever proxy took the session."""
    for n in (1, 2, 7, 8):
        user = f"user{n}@example.org"
        token = send_in(stack, user)
        until(lambda u=user, t=token: found_in(stack, u, t), "the mail in the mailbox")
        here, there = (f"mailbox-{(n + k) % 2}" for k in (0, 1))
        find = ("--", "sh", "-c", f"grep -rl --include='*.mailbox-*' {token} /var/mail/users/{user}/Maildir 2>/dev/null | wc -l")
        assert stack.kubectl("exec", here, *find).strip() == "1"
        assert stack.kubectl("exec", there, *find).strip() == "0"


def test_the_queue_follows_its_pod_to_another_node(stack: Any) -> None:
    """A mail that is deferred survives a kill with grace 0, and the same queue file comes up on another node (T05)."""
    token = send_out(stack, "user7@example.org", "defer@example.net")
    until(lambda: queue(stack, "outbound-0")["deferred"] >= 1, "the mail in the deferred queue")
    before = json.loads(stack.kubectl("get", "pod", "outbound-0", "-o", "json"))
    find = ("exec", "outbound-0", "-c", "postfix", "--", "sh", "-c", f"grep -rl {token} /var/spool/postfix/deferred /var/spool/postfix/active /var/spool/postfix/incoming")
    name = until(lambda: stack.kubectl(*find).strip().rpartition("/")[2], "the queue file")
    with pinned_away(stack, "outbound", before["spec"]["nodeName"]):
        stack.kubectl("delete", "pod", "outbound-0", "--grace-period=0", "--force", "--wait=false")
        after = until(lambda: _ready_again(stack, "outbound-0", before["metadata"]["uid"]), "the new pod", 120)
        assert after["spec"]["nodeName"] != before["spec"]["nodeName"]
        assert name in until(lambda: stack.kubectl(*find), "the queue file in the new pod")
        stack.kubectl("exec", "outbound-0", "-c", "postfix", "--", "postsuper", "-d", "ALL")
        assert queue(stack, "outbound-0")["deferred"] == 0


@contextmanager
def pinned_away(stack: Any, workload: str, node: str) -> Iterator[None]:
    """New pods of the StatefulSet do not go to ``node``; running ones are left alone until the end, when all is as before."""
    avoid = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "NotIn", "values": [node]}]}
    rule = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [avoid]}}

    def patch(strategy: dict[str, Any], affinity: dict[str, Any] | None) -> None:
        spec = {"updateStrategy": strategy, "template": {"spec": {"affinity": {"nodeAffinity": affinity}}}}
        stack.kubectl("patch", "statefulset", workload, "--type=merge", "-p", json.dumps({"spec": spec}))

    patch({"type": "OnDelete", "rollingUpdate": None}, rule)
    try:
        yield
    finally:
        patch({"type": "RollingUpdate"}, None)
        stack.kubectl("rollout", "status", f"statefulset/{workload}", "--timeout=50s")


def _ready_again(stack: Any, pod: str, old_uid: str) -> dict[str, Any] | None:
    found = json.loads(stack.kubectl("get", "pod", "-l", f"statefulset.kubernetes.io/pod-name={pod}", "-o", "json"))["items"]
    ready = [p for p in found if p["metadata"]["uid"] != old_uid and all(c["ready"] for c in p["status"].get("containerStatuses", [{"ready": False}]))]
    return ready[0] if ready else None


def test_a_dead_filter_defers_mail_and_leaves_mx_ready(stack: Any) -> None:
    """T17: readiness never fails on a shared dependency; and what cannot be filtered is not let through."""
    stack.kubectl("scale", "deployment/filter", "--replicas=0")
    try:
        stack.kubectl("wait", "pod", "-l", "app.kubernetes.io/component=filter", "--for=delete", "--timeout=50s")
        with pytest.raises(smtplib.SMTPException) as refused:
            send_in(stack, "user1@example.org")
        assert "4" in str(refused.value)
        probe = ("exec", "mx-0", "-c", "postfix", "--", "/usr/local/lib/mailgale/probe", "25", "proxy")
        stack.kubectl(*probe)
        assert json.loads(stack.kubectl("get", "pod", "mx-0", "-o", "json"))["status"]["containerStatuses"][0]["ready"]
    finally:
        stack.kubectl("scale", "deployment/filter", "--replicas=1")
        stack.kubectl("rollout", "status", "deployment/filter", "--timeout=50s")
    until(lambda: _accepted(stack), "mx to take mail again")


def _accepted(stack: Any) -> bool:
    try:
        send_in(stack, "user1@example.org")
    except smtplib.SMTPException:
        return False
    return True


def test_readiness_of_mx_fails_where_its_function_does(stack: Any) -> None:
    """The planted defect of the probe: a port where nothing listens, and one that wants the header and gets none."""
    for wrong in (("26", "proxy"), ("25",)):
        command = ("exec", "mx-0", "-c", "postfix", "--", "sh", "-c", f"/usr/local/lib/mailgale/probe {' '.join(wrong)} >/dev/null 2>&1; echo $?")
        assert stack.kubectl(*command).strip() != "0"


def test_pods_resolve_as_in_the_talk_and_nothing_real(stack: Any) -> None:
    """T30: the search list and ndots 5; names of the real world do not exist; the made-up internet does."""
    conf = stack.kubectl("exec", "mx-0", "-c", "postfix", "--", "cat", "/etc/resolv.conf")
    assert "search default.svc.cluster.local svc.cluster.local cluster.local test.example.com example.com" in conf
    assert "ndots:5" in conf
    look = "import socket,sys\ntry: print(sorted({a[4][0] for a in socket.getaddrinfo(sys.argv[1], 25)}))\nexcept socket.gaierror as e: print(e)"
    ask = lambda name: stack.kubectl("exec", "mx-0", "-c", "queue-status", "--", "python3", "-c", look, name)  # noqa: E731
    assert "not known" in ask("www.debian.org.")
    assert "not known" in ask("nothing.test.example.com.")
    assert "198.51.100.7" in ask("client-198-51-100-7.example.net.")
    assert "10." in ask(f"mailbox-0.mailbox.{stack.namespace}.svc.cluster.local.")


def test_memory_of_the_whole_stack_stays_below_six_gib(stack: Any) -> None:
    """Limits are no use, the working set is: summed from the kubelets' summaries."""
    nodes = stack.kubectl("get", "nodes", "-o", "name").split()
    used = 0
    for node in nodes:
        summary = json.loads(stack.kubectl("get", "--raw", f"/api/v1/nodes/{node.removeprefix('node/')}/proxy/stats/summary"))
        used += sum(p.get("memory", {}).get("workingSetBytes", 0) for p in summary["pods"] if p["podRef"]["namespace"] == stack.namespace)
    assert 0 < used < 6 << 30


def replies_to(stack: Any, client: str, mails: int, *, port: int = 10025) -> list[tuple[int, bytes]]:
    """The last reply to each of ``mails`` mails that one client address sends as fast as it can.

    At most nine a connection: from the tenth error on Postfix slows a session down, and ends it at the twentieth.
    """
    found: list[tuple[int, bytes]] = []
    while len(found) < mails:
        with ProxiedSMTP(stack.edge4, port, client) as smtp:
            smtp.ehlo()
            for _ in range(min(9, mails - len(found))):
                code, text = smtp.mail("outside@example.net")
                if code == 250:
                    smtp.rcpt("user8@example.org")
                    code, text = smtp.data(message("outside@example.net", "user8@example.org", secrets.token_hex(8)))
                found.append((code, text))
                smtp.rset()
    return found


@contextmanager
def limited(stack: Any, workload: str, kind: str) -> Iterator[None]:
    """What the variants shared-limit and pod-limit set, on the running stack, with a limit that any machine exceeds."""
    stack.kubectl("set", "env", workload, f"LIMIT={kind}", "LIMIT_RATE=2 / 60s", "LIMIT_BURST=10")
    try:
        _rolled_out(stack, workload)
        yield
    finally:
        stack.kubectl("set", "env", workload, "LIMIT-", "LIMIT_RATE-", "LIMIT_BURST-")
        _rolled_out(stack, workload)


def _rolled_out(stack: Any, workload: str) -> None:
    stack.kubectl("rollout", "status", workload, "--timeout=150s", timeout_s=160)  # preStop may take 38 s
    # "Rolled out" leaves old pods that are still stopping, and they still answer.
    until(lambda: not _stopping(stack), "the old pods to be gone", deadline_s=90)
    until(lambda: _accepted(stack), "mail to pass again")


def _stopping(stack: Any) -> bool:
    pods = json.loads(stack.kubectl("get", "pods", "-o", "json"))["items"]
    return any("deletionTimestamp" in p["metadata"] for p in pods)


@pytest.mark.parametrize(
    ("workload", "kind", "text"),
    [("deployment/filter", "shared", b"4.7.1 Rate limit exceeded (client)"), ("statefulset/mx", "pod", b"4.7.1 Error: too much mail from")],
)
def test_a_limit_defers_the_client_that_exceeds_it_and_no_other(stack: Any, workload: str, kind: str, text: bytes) -> None:
    """The control first: without the variant the same client is not limited, so the check can fail."""
    mails = 40
    assert {code for code, _ in replies_to(stack, "198.51.100.90", mails)} == {250}
    with limited(stack, workload, kind):
        replies = replies_to(stack, "198.51.100.91", mails)
        refused = [r for r in replies if r[0] != 250]
        assert refused, "the limit took everything"
        assert all(code in (450, 451) and text in said for code, said in refused)
        assert replies[0][0] == 250
        assert replies_to(stack, "198.51.100.92", 1)[0][0] == 250, "another client is not limited"
