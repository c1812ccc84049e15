"""What became of mail that leaves by MX, by the log of the MTA that sends it: how long it took, how often DNS held it up, what was bounced.

Source: the delivery lines of Postfix's smtp(8), ``delay=``, ``dsn=``, ``status=`` (Postfix 3.10). A delivery counts from its arrival in that MTA's queue.
Limits: a log that was bounded or rotated has fewer; the log's clock has whole seconds, its delays tenths and better.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.store.run import ArmDir
from harness.store.spans import nearest_rank

#: Container logs of the component that delivers outside.
LOGS = "outbound-*.postfix.log"
READ_MAX = 256 << 20
_LINE = re.compile(rb"postfix/(?:smtp|error)\[\d+\]: ([0-9A-Za-z]{6,20}): to=<[^>]*>,.*? delay=([\d.]+),.*? dsn=([\d.]+), status=(\w+) \((.*)\)")
_DNS = re.compile(rb"(?i)name service error|host or domain name not found|host not found")


@dataclass(frozen=True)
class Outgoing:
    """Mail that left, or tried to.

    :param deferred_by_dns: attempts that ended with a DNS failure (dsn 4.4.3, or Postfix's words for it).
    :param held_up: mails of which an attempt did. :param longest_held_s: the longest delay of those of them that left at last.
    """

    sent: int
    deferred: int
    deferred_by_dns: int
    held_up: int
    bounced: int
    p50_s: float
    p99_s: float
    longest_held_s: float


def outgoing(arm: ArmDir) -> Outgoing | None:
    """Deliveries by smtp(8) in an arm; None when there were none."""
    lines = [m for path in sorted(arm.logs.glob(LOGS)) for m in _LINE.findall(path.read_bytes()[:READ_MAX])] if arm.logs.is_dir() else []
    if not lines:
        return None
    by_dns = [mail for mail, _, dsn, status, why in lines if status == b"deferred" and (dsn == b"4.4.3" or _DNS.search(why))]
    sent = [(mail, float(delay)) for mail, delay, _, status, _ in lines if status == b"sent"]
    delays, held = [d for _, d in sent], set(by_dns)
    return Outgoing(
        sent=len(sent), deferred=sum(status == b"deferred" for *_, status, _ in lines), deferred_by_dns=len(by_dns), held_up=len(held),
        bounced=sum(status == b"bounced" for *_, status, _ in lines), p50_s=nearest_rank(delays, 0.5) if delays else 0.0,
        p99_s=nearest_rank(delays, 0.99) if delays else 0.0, longest_held_s=max((d for mail, d in sent if mail in held), default=0.0),
    )
