"""Real Dovecot and Postfix of the machine on loopback ports of their own, for tests. No service is installed or touched."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PASSWORD = "s3cret (with) \"marks\\"
DOMAIN = "example.org"

_DOVECOT = """\
protocols = imap pop3{lmtp_protocol}
listen = 127.0.0.1
base_dir = {root}/run
state_dir = {root}/state
log_path = {root}/dovecot.log
ssl = {ssl}
disable_plaintext_auth = no
auth_mechanisms = plain login
auth_failure_delay = 0 secs
mail_location = maildir:{root}/mail/%u
mail_uid = nobody
mail_gid = nogroup
first_valid_uid = 1
first_valid_gid = 1
default_internal_user = dovecot
default_login_user = dovenull
mail_max_userip_connections = 100
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {root}/users
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={root}/mail/%u
}}
namespace inbox {{
  inbox = yes
  mailbox Junk {{
    auto = create
  }}
}}
service imap-login {{
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = {imaps}
    ssl = yes
  }}
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {pop3}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
{lmtp_services}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  unix_listener stats-writer {{
    mode = 0666
  }}
}}
"""


_LMTP = """\
postmaster_address = postmaster@example.org
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {lmtp}
  }}
}}
service auth {{
  inet_listener {{
    address = 127.0.0.1
    port = {auth}
  }}
}}
"""


def needs(*programs: str) -> None:
    """Skip the test where a program or root's rights are missing."""
    missing = [p for p in programs if not shutil.which(p, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")]
    if missing:
        pytest.skip(f"not installed here: {', '.join(missing)}")
    if os.geteuid() != 0:
        pytest.skip("mail servers switch users, so this test needs root")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def wait_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(200):
        with socket.socket() as one:
            one.settimeout(0.2)
            if one.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise AssertionError(log.read_text() if log.exists() else "no log")


class Dovecot:
    """One running Dovecot. Mailboxes are Maildirs, filled by writing files into them."""

    def __init__(self, root: Path, imap: int, imaps: int, pop3: int) -> None:
        self.root, self.imap, self.imaps, self.pop3 = root, imap, imaps, pop3
        self.lmtp = self.auth = 0  #: of a Dovecot with LMTP
        self._numbers = itertools.count(1)

    def deliver(self, address: str, message: bytes, mailbox: str = "INBOX") -> Path:
        """Put a message into a mailbox as a delivery agent does."""
        home = self.root / "mail" / address
        folder = home if mailbox == "INBOX" else home / f".{mailbox}"
        owner = pwd.getpwnam("nobody")
        for path in [home, folder, *(folder / d for d in ("cur", "new", "tmp"))]:
            if not path.exists():
                path.mkdir(parents=True, exist_ok=True)
                os.chown(path, owner.pw_uid, owner.pw_gid)
        number = next(self._numbers)
        name = f"{1_700_000_000 + number}.M{number}.test"
        fresh, path = folder / "tmp" / name, folder / "new" / name
        fresh.write_bytes(message)
        os.chown(fresh, owner.pw_uid, owner.pw_gid)
        fresh.rename(path)  # a reader may take it out of "new" at once
        return path


@contextmanager
def dovecot(users: int, tls: tuple[Path, Path] | None = None, *, lmtp: bool = False) -> Iterator[Dovecot]:
    """A Dovecot with ``users`` users; with LMTP and SASL over TCP where ``lmtp``. Skip where there is none."""
    needs("dovecot")
    if lmtp and not Path("/usr/lib/dovecot/lmtp").is_file():
        pytest.skip("not installed here: dovecot-lmtpd")
    version = subprocess.run(["dovecot", "--version"], capture_output=True, text=True, check=False).stdout
    if not version.startswith("2.3"):
        pytest.skip(f"this configuration is for Dovecot 2.3, not {version.strip()}")
    root = Path(tempfile.mkdtemp(prefix="mailgale-dovecot-"))
    root.chmod(0o755)
    (root / "mail").mkdir()
    shutil.chown(root / "mail", "nobody", "nogroup")
    (root / "users").write_text("".join(f"user{n}@{DOMAIN}:{{PLAIN}}{PASSWORD}\n" for n in range(1, users + 1)))
    server = Dovecot(root, free_port(), free_port(), free_port())
    ssl = f"yes\nssl_cert = <{tls[0]}\nssl_key = <{tls[1]}" if tls else "no"
    more = ""
    if lmtp:
        server.lmtp, server.auth = free_port(), free_port()
        more = _LMTP.format(lmtp=server.lmtp, auth=server.auth)
    text = _DOVECOT.format(lmtp_protocol=" lmtp" if lmtp else "", lmtp_services=more, root=root, imap=server.imap, imaps=server.imaps if tls else 0, pop3=server.pop3, ssl=ssl)
    (root / "dovecot.conf").write_text(text)
    process = subprocess.Popen(["dovecot", "-F", "-c", str(root / "dovecot.conf")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_port(server.imap, process, root / "dovecot.log")
        yield server
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(root, ignore_errors=True)


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
relay_domains = example.org, example.net
relay_recipient_maps =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
relay_transport = lmtp:inet:127.0.0.1:{sink}
smtpd_milters = inet:127.0.0.1:{milter}
smtpd_recipient_restrictions = check_recipient_access inline:{{{{hold@example.org=HOLD}}}}, permit_mynetworks, reject
milter_default_action = accept
smtp_destination_recipient_limit = 1
lmtp_destination_recipient_limit = 1
minimal_backoff_time = 1000s
"""
MASTER = """\
{port} inet n - n - - smtpd
postlog unix-dgram n - n - 1 postlogd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
lmtp unix - - n - - lmtp
relay unix - - n - - lmtp
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
proxymap unix - - n - - proxymap
scache unix - - n - 1 scache
showq unix n - n - - showq
"""


class Postfix:
    """One running Postfix: ``spool`` is its queue directory, ``port`` its SMTP port."""

    def __init__(self, root: Path, port: int) -> None:
        self.root, self.port, self.spool = root, port, root / "spool"

    def queue(self, name: str) -> list[Path]:
        """Queue files in one queue."""
        return [p for p in (self.spool / name).rglob("*") if p.is_file()]


@contextmanager
def postfix(sink_port: int, milter_port: int) -> Iterator[Postfix]:
    """A Postfix that hands everything to LMTP on ``sink_port``, after asking a milter on ``milter_port``; skip where there is none."""
    needs("postfix", "postconf")
    root = Path(tempfile.mkdtemp(prefix="mailgale-postfix-"))
    root.chmod(0o755)
    port = free_port()
    etc = root / "etc"
    etc.mkdir()
    (etc / "main.cf").write_text(_POSTFIX.format(root=root, port=port, sink=sink_port, milter=milter_port))
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


def make_spool(root: Path) -> None:
    """An empty queue directory with the owners that Postfix wants."""
    spool = root / "spool"
    for name in ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved", "trace"):
        (spool / name).mkdir(parents=True, mode=0o700)
        shutil.chown(spool / name, "postfix")
    for name, group in (("maildrop", "postdrop"), ("public", "postdrop")):
        (spool / name).mkdir(mode=0o710)
        shutil.chown(spool / name, "postfix", group)
    (spool / "pid").mkdir()
    (root / "data").mkdir(mode=0o700)
    shutil.chown(root / "data", "postfix")
