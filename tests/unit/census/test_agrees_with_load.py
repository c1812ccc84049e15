"""Generator and census compute the canonical form apart from each other; here they must agree, mail by mail."""

from __future__ import annotations

import pytest

from harness.census.canonical import examine
from harness.load.messages import Messages
from harness.load.params import Params
from harness.model.outcome import Population
from tests.unit.census.mails import PREFIX


@pytest.fixture(scope="module")
def made():
    messages = Messages(7, Params(), [f"user{n}@example.org" for n in range(1, 21)], ["a@example.net"], PREFIX)
    messages.senders = ["sender@example.net"]
    mails = [messages.make(Population.ELASTIC, n, 0, 0) for n in range(300)]
    return [(m.number, m.template.kind, messages.sha(m).hex(), messages.render(m)) for m in mails]


def test_numbers_and_hashes(made):
    wrong = [(n, kind) for n, kind, sha, raw in made if (seen := examine(raw, PREFIX)).mail != n or seen.sha != sha]
    assert wrong == []
    assert len({kind for _, kind, _, _ in made}) > 4


def test_line_ends_as_postfix_keeps_them(made):
    assert [n for n, _, sha, raw in made if examine(raw.replace(b"\r\n", b"\n"), PREFIX).sha != sha] == []
