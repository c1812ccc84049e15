"""Delivery lines as Postfix 3.10 writes them: what left, what DNS held up, and for how long."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.store.deliveries import outgoing
from harness.store.run import ArmDir

SENT = "Nov 25 01:13:29 outbound-0 postfix/smtp[225]: {id}: to=<person@d1.zipf.example.net>, relay=internet-0.internet.ns.svc.cluster.local[10.244.1.7]:25, delay={delay}, delays=0/0.01/0.01/0.49, dsn=2.0.0, status=sent (250 2.0.0 recorded)"
DEFERRED = (
    "Nov 25 01:13:29 outbound-0 postfix/smtp[225]: {id}: to=<person@d1.zipf.example.net>, relay=none, delay=5.1, delays=0/0/5/0, dsn=4.4.3, status=deferred "
    "(Host or domain name not found. Name service error for name=d1.zipf.example.net type=MX: Host not found, try again)"
)
OTHER = "Nov 25 01:13:29 outbound-0 postfix/smtp[225]: {id}: to=<a@b.example>, relay=none, delay=30, delays=0/0/30/0, dsn=4.4.1, status=deferred (connect to b.example: Connection timed out)"
BOUNCED = (
    "Nov 25 01:13:29 outbound-0 postfix/smtp[226]: {id}: to=<person@d2.zipf.example.net>, relay=none, delay=0.2, delays=0/0/0.1/0, dsn=5.4.4, status=bounced "
    "(Host or domain name not found. Name service error for name=d2.zipf.example.net type=A: Host not found)"
)
LOCAL = "Nov 25 01:13:29 outbound-0 postfix/lmtp[225]: 4jZ1s474hnz9rxk: to=<user8@example.org>, relay=m[10.96.85.115]:24, delay=0.51, delays=0/0.01/0.01/0.49, dsn=2.0.0, status=sent (250 Saved)"


def written(folder: Path, *lines: str) -> ArmDir:
    arm = ArmDir(folder / "1-off", 1, "off")
    arm.logs.mkdir(parents=True)
    (arm.logs / "outbound-0.postfix.log").write_text("--- mailgale: container\n" + "\n".join(lines) + "\n")
    return arm


def test_what_dns_held_up(tmp_path: Path) -> None:
    lines = [SENT.format(id="4jZ1s474hnz9rxa", delay=0.5), DEFERRED.format(id="4jZ1s474hnz9rxb"), DEFERRED.format(id="4jZ1s474hnz9rxb"),
             SENT.format(id="4jZ1s474hnz9rxb", delay=17.25), OTHER.format(id="4jZ1s474hnz9rxc"), BOUNCED.format(id="4jZ1s474hnz9rxd"), LOCAL]
    found = outgoing(written(tmp_path, *lines))
    assert found is not None
    assert (found.sent, found.deferred, found.deferred_by_dns, found.held_up, found.bounced) == (2, 3, 2, 1, 1)
    assert (found.p50_s, found.p99_s, found.longest_held_s) == (0.5, 17.25, 17.25)


@pytest.mark.parametrize("lines", [(), (LOCAL,)])
def test_nothing_that_left_is_no_zero(tmp_path: Path, lines: tuple[str, ...]) -> None:
    assert outgoing(written(tmp_path, *lines)) is None
