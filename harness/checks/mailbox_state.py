"""Mailboxes keep what clients build on: UIDVALIDITY, the flags that a user set, POP3's unique IDs.

Counts mailboxes *renumbered* (met under more than one UIDVALIDITY, which makes every client fetch all its mail again; RFC 9051 section
2.3.1.1), *flags lost* (a flag that the server had acknowledged is on no copy of that mail in the census' last round) and unique IDs
*changed* (a mail that POP3 showed under one ID has it no more and another instead, so that it is fetched again; RFC 1939, UIDL). What
the load's users saw, the survey before it and both rounds of the census are held against each other.

Limits: one ``…_max`` for each. INCONCLUSIVE where no mailbox told its state, one was not read, or the load was to set flags or to read by
POP3 and there is no record of it. Known limits: POP3 shows the INBOX, and the census reads a sample of the users and those of the load by
it; a mail that is in the mailbox no more is a matter of ``no-loss`` and ``integrity``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

from harness.checks.common import plural, verdict, worst_of
from harness.model.verdict import Status, Verdict
from harness.store.history import ArmHistory

LIMITS: dict[str, float | None] = {"renumbered_max": 0, "flags_lost_max": 0, "uidls_changed_max": 0}
_WORDS = {
    "renumbered": "another UIDVALIDITY for {n} of the mailboxes", "flags_lost": "flags lost: {n}", "uidls_changed": "unique IDs of POP3 changed: {n}",
}
#: Flags that have to be there: those of a message that its user has not deleted or moved since.
_MARKED = """SELECT DISTINCT mail, mailbox, flag FROM flagged
    ANTI JOIN (SELECT mail, mailbox, uid FROM deleting UNION ALL SELECT mail, mailbox, uid FROM expunged UNION ALL SELECT mail, mailbox, uid FROM moving)
    USING (mail, mailbox, uid)"""
_LOST = f"""
SELECT f.mail, f.mailbox, f.flag FROM ({_MARKED}) f JOIN copies c ON c.mail = f.mail AND lower(c.place) = f.mailbox
WHERE c.round = 2 AND c.flags IS NOT NULL GROUP BY ALL HAVING NOT bool_or(list_contains(c.flags, f.flag)) ORDER BY ALL
"""
_UNSEEN = """
SELECT count(*) FROM (SELECT DISTINCT mail, mailbox FROM flagged) f JOIN copies c ON c.mail = f.mail AND lower(c.place) = f.mailbox
WHERE c.round = 2 AND c.flags IS NULL
"""
#: (where, mail) → the unique IDs it was seen under, at one time.
Look = dict[tuple[str, int], set[str]]


def check(arm: ArmHistory, limits: Mapping[str, float]) -> Verdict:
    """FAIL with the mailboxes and mails; INCONCLUSIVE where their state was not seen."""
    validities, looks = _validities(arm), _looks(arm)
    found = {
        "renumbered": [f"{where}: UIDVALIDITY {', '.join(map(str, sorted(v)))}" for where, v in sorted(validities.items()) if len(v) > 1],
        "flags_lost": [f"mail {mail} in {where}: {flag} is gone" for mail, where, flag in arm.sql(_LOST)],
        "uidls_changed": list(_changed(looks)),
    }
    problems = [
        (Status.FAIL, _WORDS[kind].format(n=len(lines))) for kind, lines in found.items() if len(lines) > limits[f"{kind}_max"]
    ]
    problems += [(Status.INCONCLUSIVE, why) for why in _gaps(arm, validities, looks)]
    marked, known = int(arm.one("SELECT count(*) FROM flagged")), len({key for look in looks for key in look})
    well = f"{plural(len(validities), 'mailbox').replace('boxs', 'boxes')} kept the UIDVALIDITY, {marked} flags and {known} unique IDs of POP3 held"
    status, reason = worst_of(problems, well)
    figures = {k: float(len(v)) for k, v in found.items()} | {"mailboxes": len(validities), "flags": marked, "uidls": known}
    return verdict(arm, "mailbox-state", status, reason, figures, [line for lines in found.values() for line in lines])


def _validities(arm: ArmHistory) -> dict[str, set[int]]:
    """Mailbox → every UIDVALIDITY that the survey, the load's users and the census met it under."""
    seen: dict[str, set[int]] = {}
    for kind, place in (("before", "where"), ("uidvalidity", "mailbox"), ("scope", "where")):
        for e in arm.events(kind):
            if e.get("uidvalidity"):
                seen.setdefault(str(e.get(place)).lower(), set()).add(int(e["uidvalidity"]))
    return seen


def _looks(arm: ArmHistory) -> list[Look]:
    """What POP3 showed, in the order of time: to the load's users, then in each round of the census."""
    looks: list[Look] = [{}, {}, {}]
    for e in arm.events("uidl"):
        _note(looks[0], str(e.get("mailbox")), int(e["mail"]), str(e.get("uidl")))
    for e in arm.events("scope"):
        for mail, uidl in e.get("uidls") or ():
            _note(looks[2 if e.get("round") == 2 else 1], str(e.get("where")).removesuffix(" by POP3"), int(mail), str(uidl))
    return looks


def _note(look: Look, where: str, mail: int, uidl: str) -> None:
    look.setdefault((where.lower(), mail), set()).add(uidl)


def _changed(looks: list[Look]) -> Iterator[str]:
    """A mail with an ID less and an ID more than before. A copy more alone, or one less, is a matter of other checks."""
    for key in sorted({key for look in looks for key in look}):
        seen = [look[key] for look in looks if key in look]
        for before, after in pairwise(seen):
            if before - after and after - before:
                where, mail = key
                yield f"mail {mail} in {where}: unique ID {', '.join(sorted(before - after))} became {', '.join(sorted(after - before))}"
                break


def _gaps(arm: ArmHistory, validities: Mapping[str, set[int]], looks: list[Look]) -> Iterator[str]:
    """Why the state was not seen as far as the plan asks for."""
    params = arm.plan.load_params(arm.name)
    if not validities and not any("uidls" in e for e in arm.events("scope")):
        yield "no mailbox told its state"
    unread = arm.sql("SELECT round, place, why FROM scopes WHERE source = 'mailbox' AND NOT complete ORDER BY ALL LIMIT 1")
    yield from (f"round {number}, {place} was not read: {why}" for number, place, why in unread)
    if float(params.get("flag_share") or 0) and not arm.events("flagged"):
        yield "the load was to set flags and none is on record"
    if arm.one(_UNSEEN):
        yield "flags were set that the census did not look for"
    if int(params.get("pop_users") or 0) and _popped(arm) and not (looks[1] and looks[2]):
        yield "mail was read by POP3, and the census has no unique IDs"


def _popped(arm: ArmHistory) -> bool:
    """Whether mail was read by POP3 that has to be there still."""
    gone = {(e.get("mail"), e.get("mailbox")) for kind in ("deleting", "expunged") for e in arm.events(kind)}
    return any((e.get("mail"), e.get("mailbox")) not in gone for e in arm.events("uidl"))
