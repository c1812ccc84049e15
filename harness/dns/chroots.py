"""A Postfix whose services run in a chroot looks names up by the copy of resolv.conf in there, which may be older than the pod's.

Debian's master.cf chroots smtp, smtpd and lmtp, and the copy is made when Postfix starts (``configure-instance.sh``); without it a change of dnsConfig never
reaches them. Sources: master(5), postconf(5) ``queue_directory``, ``compatibility_level``. Limits: main.cf is read line by line, without ``$`` in these values;
other programs' chroots are not looked for.
"""

from __future__ import annotations

import re
from pathlib import Path

from harness.dns.count import ResolverConfig

_QUEUE = "/var/spool/postfix"
_RESOLV = "etc/resolv.conf"
#: From master(5): service, type, private, unprivileged, chroot, wake-up, processes, command.
_CHROOT, _COMMAND, _FIELDS = 4, 7, 8


def stale(root: Path) -> str:
    """Why the Postfix below ``root`` does not look names up by ``root``'s own resolv.conf; "" where it does, or there is none.

    :raises OSError: a file that is there cannot be read.
    """
    main, services = _main(root), _chrooted(root)
    if not services:
        return ""
    copy = root / main.get("queue_directory", _QUEUE).lstrip("/") / _RESOLV
    who = f"Postfix ({', '.join(services)}) runs in a chroot"
    if not copy.is_file():
        return f"{who} without a resolv.conf"
    if ResolverConfig.parse(copy.read_text()) != ResolverConfig.parse((root / _RESOLV).read_text()):
        return f"{who} whose resolv.conf is another than the pod's"
    return ""


def _main(root: Path) -> dict[str, str]:
    path = root / "etc/postfix/main.cf"
    return {k: v.strip() for k, v in re.findall(r"^(\w+)\s*=[ \t]*(.*)$", path.read_text(errors="replace"), re.M)} if path.is_file() else {}


def _chrooted(root: Path) -> list[str]:
    """Commands of the services that run in a chroot, each once."""
    path = root / "etc/postfix/master.cf"
    if not path.is_file():
        return []
    default = "y" if _main(root).get("compatibility_level", "0").split(".")[0] == "0" else "n"
    rows = [line.split() for line in path.read_text(errors="replace").splitlines() if line[:1] not in ("", "#", " ", "\t")]
    found = [row[_COMMAND] for row in rows if len(row) >= _FIELDS and row[_CHROOT].replace("-", default) == "y"]
    return list(dict.fromkeys(found))
