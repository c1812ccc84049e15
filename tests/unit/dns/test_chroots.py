"""Debian's Postfix in its chroot: an old copy of resolv.conf is named, and nothing else is."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.dns.chroots import stale

NOW = "search example.com\nnameserver 10.96.0.53\noptions ndots:1\n"
OLD = "search example.com\nnameserver 10.96.0.10\noptions ndots:5\n"
#: As Debian ships it (postfix 3.7 to 3.10), cut short.
DEBIAN = """\
# service type  private unpriv  chroot  wakeup  maxproc command + args
#               (yes)   (yes)   (no)    (never) (100)
smtp      inet  n       -       y       -       -       smtpd
#submission inet n      -       y       -       -       smtpd
  -o syslog_name=postfix/submission
cleanup   unix  n       -       y       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
smtp      unix  -       -       y       -       -       smtp
local     unix  -       n       n       -       -       local
"""
OURS = DEBIAN.replace("       y       ", "       n       ")
UNSAID = DEBIAN.replace("       y       ", "       -       ")


def pod(root: Path, master: str | None = DEBIAN, main: str = "compatibility_level = 3.6\n", copy: str | None = OLD, queue: str = "var/spool/postfix") -> Path:
    (root / "etc" / "postfix").mkdir(parents=True)
    (root / "etc" / "resolv.conf").write_text(NOW)
    (root / "etc" / "postfix" / "main.cf").write_text(main)
    if master is not None:
        (root / "etc" / "postfix" / "master.cf").write_text(master)
    if copy is not None:
        (root / queue / "etc").mkdir(parents=True)
        (root / queue / "etc" / "resolv.conf").write_text(copy)
    return root


@pytest.mark.parametrize(("made", "said"), [
    ({}, "Postfix (smtpd, cleanup, smtp) runs in a chroot whose resolv.conf is another than the pod's"),
    ({"copy": None}, "Postfix (smtpd, cleanup, smtp) runs in a chroot without a resolv.conf"),
    ({"copy": NOW}, ""), ({"copy": f"# made by a program\n{NOW}"}, ""), ({"master": OURS}, ""), ({"master": None}, ""),
    ({"master": UNSAID}, ""), ({"master": UNSAID, "main": ""}, "Postfix (smtpd, cleanup, qmgr"[:25]), ({"master": UNSAID, "main": "compatibility_level = 0\n"}, "Postfix (smtpd"),
    ({"main": "queue_directory = /srv/queue\ncompatibility_level = 3.6\n", "queue": "srv/queue"}, "another than the pod's"),
    ({"main": "queue_directory = /srv/queue\ncompatibility_level = 3.6\n"}, "without a resolv.conf"),
])
def test_an_old_copy_is_named(tmp_path: Path, made: dict[str, str | None], said: str) -> None:
    found = stale(pod(tmp_path, **made))  # type: ignore[arg-type]
    assert said in found
    assert bool(found) is bool(said)


def test_a_pod_without_postfix_has_none(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    assert stale(tmp_path) == ""


def test_the_stacks_own_start_script_takes_the_chroot_out(tmp_path: Path) -> None:
    text = (Path(__file__).resolve().parents[3] / "deploy" / "components" / "postfix" / "start").read_text()
    assert subprocess.run(["grep", "-c", "^postconf -F '\\*/\\*/chroot=n'$"], input=text, capture_output=True, text=True, check=True).stdout.strip() == "1"
