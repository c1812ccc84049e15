"""T32b in mail: decided as its page says, on histories whose look-ups, deliveries and retries are planted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.claims import unbound_price
from harness.claims.unbound_price import SLOTS
from harness.model.plan import Arm
from harness.model.verdict import ClaimResult, Finding
from harness.selftest.builder import ArmBuilder, HistoryBuilder
from harness.selftest.friday import limited_plan
from harness.store.history import load
from tests.unit.store.test_dns_layers import HELD, SENT, watched

FORCED = ("node-local-dns", "node-local-dns-tcp", "far-authority")
ARMS = (Arm("few", FORCED), Arm("many", (*FORCED, SLOTS)), Arm("udp", ("node-local-dns", "far-authority")))
#: Failed look-ups of 200, mails held up, seconds that mail takes to leave.
Paid = tuple[int, int, float]


@pytest.fixture
def say(tmp_path: Path) -> Callable[..., Finding]:
    """``say(few=(…), many=(…))``: the finding."""

    def run(blocks: int = 1, spoil: Callable[[ArmBuilder], object] = lambda a: None, **paid: Paid) -> Finding:
        plan = replace(limited_plan(), arms=tuple(a for a in ARMS if a.name in paid), look_ups_per_s=25.0)
        b = HistoryBuilder(tmp_path, plan, blocks=blocks)
        for arm in b.arms:
            watched(arm, 1000, 500, tcp=500, failed=paid[arm.name][0])
            spoil(arm)
        run = b.write(seal=False)
        for arm in b.arms:
            _, held, delay = paid[arm.name]
            logs = run.arm(arm.block, arm.name).logs
            logs.mkdir(exist_ok=True)
            lines = [SENT.format(id=f"4jZ1s474hnz9r{n:03d}", delay=delay) for n in range(20)]
            lines += [HELD.format(id=f"4jZ1s474hnz9r{n:03d}") for n in range(held)]
            (logs / "outbound-0.postfix.log").write_text("".join(lines))
        with load(run) as history:
            return unbound_price.find(history.arms, history.plan)

    return run


WELL = (0, 0, 0.1)


@pytest.mark.parametrize(
    ("few", "many", "udp", "result", "said"),
    [
        ((40, 7, 12.0), WELL, WELL, ClaimResult.CONFIRMED_UNDER_CONDITIONS, "20.0% of the look-ups failed, 7 mails were held up"),
        ((40, 7, 0.1), WELL, None, ClaimResult.CONFIRMED_UNDER_CONDITIONS, "with 1000 0.0%, 0 and"),
        ((40, 0, 0.2), WELL, None, ClaimResult.CONFIRMED_UNDER_CONDITIONS, "p99 of outgoing mail ×2.00"),
        ((40, 0, 0.1), WELL, WELL, ClaimResult.REFUTED, "0 mails were held up"),
        ((2, 7, 12.0), WELL, WELL, ClaimResult.UNDECIDED, "10 slots were enough"),
        ((40, 7, 12.0), (30, 0, 0.1), WELL, ClaimResult.UNDECIDED, "fail with 1000 slots as well"),
        ((40, 7, 12.0), WELL, (30, 0, 0.1), ClaimResult.UNDECIDED, "over UDP they fail as well"),
    ],
)
def test_it_decides_by_what_mail_pays(say: Callable[..., Finding], few: Paid, many: Paid, udp: Paid | None, result: ClaimResult, said: str) -> None:
    found = say(few=few, many=many, **({"udp": udp} if udp else {}))
    assert (found.result, said in found.reason) == (result, True), found


def test_conditions_name_the_load_and_the_blocks(say: Callable[..., Finding]) -> None:
    found = say(few=(40, 7, 12.0), many=WELL)
    assert "25 look-ups a second" in found.conditions
    assert "n=1 of 6 blocks" in found.conditions
    assert found.figures["10_slots_max"] == 6
    assert found.figures["outgoing_p99_ratio"] == pytest.approx(120.0)


def test_retries_of_outside_senders_are_a_price(say: Callable[..., Finding]) -> None:
    def again(arm: ArmBuilder) -> None:
        if arm.name == "few":
            for mail in arm.mails[:5]:
                mail.attempts.insert(0, replace(mail.attempts[0]))

    found = say(spoil=again, few=(40, 0, 0.1), many=WELL)
    assert (found.result, found.figures["10_retries"] - found.figures["1000_retries"]) == (ClaimResult.CONFIRMED_UNDER_CONDITIONS, 5)


@pytest.mark.parametrize("paid", [{"few": WELL}, {"many": WELL}, {"few": WELL, "udp": WELL}])
def test_without_a_pair_it_is_undecided(say: Callable[..., Finding], paid: dict[str, Paid]) -> None:
    assert say(**paid).result == ClaimResult.UNDECIDED


def test_without_look_ups_it_is_undecided(say: Callable[..., Finding]) -> None:
    found = say(spoil=lambda arm: arm.drop_events("lookups.log", "lookup"), few=(40, 7, 12.0), many=WELL)
    assert found.result == ClaimResult.UNDECIDED
