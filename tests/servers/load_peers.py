"""Real Postfix, Dovecot and Exim as Debian ships them, wired together for `mailgale load`: own files, own ports on loopback.

Both hand over by LMTP to a Dovecot; Postfix asks the same Dovecot for SASL. Exim cannot deliver into Maildirs itself here, since it gives
up root for a configuration that is not the installed one. The packages of Postfix and
Exim exclude each other, so an Exim that is not installed is unpacked from its package into the checkout's own state.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from harness.support.checkout import Checkout
from tests.servers.mailservers import (
    DOMAIN,
    MASTER,
    Dovecot,
    Postfix,
    free_port,
    make_spool,
    needs,
    wait_port,
)

_POSTFIX = """\
compatibility_level = 3.6
queue_directory = {root}/spool
data_directory = {root}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
maillog_file = /var/log/mailgale-test-{port}.log
maillog_file_prefixes = /var/log
mail_owner = postfix
setgid_group = postdrop
myhostname = mx.example.org
mydestination =
local_recipient_maps =
alias_maps =
relay_domains = {domain}
relay_recipient_maps =
mynetworks =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
relay_transport = lmtp:inet:127.0.0.1:{lmtp}
lmtp_destination_concurrency_limit = 20
smtpd_sasl_type = dovecot
smtpd_sasl_path = inet:127.0.0.1:{auth}
smtpd_sasl_auth_enable = yes
smtpd_relay_restrictions = permit_sasl_authenticated, reject_unauth_destination
in_flow_delay = 0
{tls}
"""

_EXIM = """\
primary_hostname = mx.example.org
exim_path = {binary}
spool_directory = {root}/spool
log_file_path = {root}/%slog
pid_file_path = {root}/exim.pid
daemon_smtp_ports = {port}
local_interfaces = 127.0.0.1
never_users = root
smtp_accept_max = 200
queue_run_max = 20
smtp_accept_queue = 0
smtp_accept_queue_per_connection = 0
keep_environment =
host_lookup =
rfc1413_query_timeout = 0s
tls_advertise_hosts =
acl_smtp_rcpt = acl_rcpt
begin acl
acl_rcpt:
  accept domains = {domain}
  deny message = relay not permitted
begin routers
mailboxes:
  driver = accept
  domains = {domain}
  transport = mailboxes
begin transports
mailboxes:
  driver = smtp
  protocol = lmtp
  hosts = 127.0.0.1
  port = {lmtp}
  allow_localhost
  hosts_try_fastopen =
begin retry
* * F,1h,1m
"""


@contextmanager
def postfix_lmtp(box: Dovecot, tls: tuple[Path, Path] | None = None) -> Iterator[Postfix]:
    """A Postfix for the users of ``box``, which must speak LMTP."""
    needs("postfix", "postconf")
    root = Path(tempfile.mkdtemp(prefix="mailgale-postfix-"))
    root.chmod(0o755)
    port = free_port()
    etc = root / "etc"
    etc.mkdir()
    secure = f"smtpd_tls_security_level = may\nsmtpd_tls_cert_file = {tls[0]}\nsmtpd_tls_key_file = {tls[1]}" if tls else ""
    (etc / "main.cf").write_text(_POSTFIX.format(root=root, port=port, domain=DOMAIN, lmtp=box.lmtp, auth=box.auth, tls=secure))
    (etc / "master.cf").write_text(MASTER.format(port=f"127.0.0.1:{port}"))
    (etc / "dynamicmaps.cf").write_text("")
    make_spool(root)
    process = subprocess.Popen(["/usr/lib/postfix/sbin/master", "-c", str(etc), "-d"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    log = Path(f"/var/log/mailgale-test-{port}.log")
    try:
        wait_port(port, process, log)
        yield Postfix(root, port)
    finally:
        process.terminate()
        process.wait(20)
        log.unlink(missing_ok=True)
        shutil.rmtree(root, ignore_errors=True)


@contextmanager
def exim(box: Dovecot) -> Iterator[int]:
    """An Exim that hands over to ``box``, which must speak LMTP; its SMTP port. Skip where there is none to be had."""
    needs("unshare", "mount")
    binary = exim_binary()
    root = Path(tempfile.mkdtemp(prefix="mailgale-exim-"))
    root.chmod(0o755)
    port = free_port()
    (root / "exim.conf").write_text(_EXIM.format(root=root, binary=binary, port=port, domain=DOMAIN, lmtp=box.lmtp))
    _accounts(root)
    (root / "spool").mkdir()
    for path in (root, root / "spool"):
        os.chown(path, EXIM_ID, EXIM_ID)
    script = f"mount --bind {root}/passwd /etc/passwd && mount --bind {root}/group /etc/group && exec {binary} -C {root}/exim.conf -bdf -oX 127.0.0.1.{port}"
    with (root / "stderr").open("wb") as errors:
        process = subprocess.Popen(["unshare", "--mount", "sh", "-c", script], stdout=errors, stderr=errors)
    try:
        wait_port(port, process, root / "stderr")
        yield port
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(root, ignore_errors=True)


#: The user that Debian's Exim runs as; it is there only while its package is installed, so it is lent one in a mount namespace.
EXIM_USER, EXIM_ID = "Debian-exim", 64_871


def _accounts(root: Path) -> None:
    for name, line in (("passwd", f"{EXIM_USER}:x:{EXIM_ID}:{EXIM_ID}::/nonexistent:/usr/sbin/nologin\n"), ("group", f"{EXIM_USER}:x:{EXIM_ID}:\n")):
        kept = [entry for entry in Path("/etc", name).read_text().splitlines(keepends=True) if not entry.startswith(f"{EXIM_USER}:")]
        (root / name).write_text("".join(kept) + line)


def exim_binary() -> Path:
    """The installed Exim, or one unpacked from Debian's package; skip where neither can be had."""
    installed = shutil.which("exim4", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if installed:
        return Path(installed)
    folder = Checkout.find().state / "peers" / "exim"
    binary = folder / "usr" / "sbin" / "exim4"
    if not binary.is_file():
        needs("apt-get", "dpkg-deb")
        _unpack("exim4-daemon-light", folder)
    missing = subprocess.run(["ldd", str(binary)], capture_output=True, text=True, check=False).stdout if binary.is_file() else "not found"
    if "not found" in missing:
        pytest.skip("Exim is not installed, and its package or a library of it is not to be had here")
    return binary


def _unpack(package: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, suppress(subprocess.SubprocessError):
        subprocess.run(["apt-get", "download", package], cwd=scratch, capture_output=True, timeout=60, check=True)
        for found in Path(scratch).glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", str(found), str(folder)], capture_output=True, timeout=60, check=True)
