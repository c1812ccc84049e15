"""The final state of every mail and recipient, worked out in SQL from ledger and census.

Source of the rules: DESIGN.md, RFC 5321 section 4.5.3.2.6 and RFC 1047 (after the final dot nobody knows until the reply).
One row per mail and recipient in the table ``fates``; what was found and belongs to no such row is in ``strays``.

| state | acknowledged | found |
|---|---|---|
| delivered | yes, or in doubt | one copy in a mailbox or sink, by the census or by any reader before |
| duplicated | 〃 | several; how many of them are explained is in ``dup_explained``, ``dup_possible``, ``dup_fault``, ``dup_unexplained`` |
| corrupted | any | a copy whose canonical form is another than the one offered |
| quarantined | any | in quarantine only (planted when the mail is GTUBE or EICAR) |
| queued | any | in a queue in the last round |
| bounced | any | a DSN with Action: failed for this recipient |
| lost | yes | nothing, in two rounds in which every queue and this recipient's mailbox were read whole |
| undetermined | yes | nothing, but not everything was read |
| in_doubt | cut after the final dot, never answered | nothing (0 copies are right) |
| rejected_but_delivered | only refused (5xx, or any reply before the message) | a copy |
| resurrected | yes | a copy, though its reader had it expunged: under the UID that was expunged, or one more than its history explains |
| deferred, refused, never_attempted | no | nothing |
| not_counted | any | mail with the empty sender |

Extra copies, in this order: one for every further acknowledgement and every attempt in doubt is *explained*; one for every fault that
began after the acknowledgement is explained by the *fault* (a worker killed between a recipient's reply and its queue's removal
delivers again); one for every 4xx reply to the dot is *possible*; the rest is *unexplained*. A move that its user never heard the end of
explains one copy too (RFC 6851 section 3.3).

What its own reader deleted counts as a copy that was there (event ``expunged``): it is delivered, and duplicates do not hide behind deletions. A
deletion that was begun and has no end on record (``deleting`` alone) may have taken effect or not: gone or there, the mail is delivered.

Where the target's queues cannot be listed (event ``not_supported`` with ``what`` = ``queues``), absence after the settling time counts as
a queue that was read: mail that arrives later is lost here.

Limits: a bounce names its recipients only as far as the DSN does. A mail seen by a reader and gone later without a recorded
deletion is delivered here; the check ``integrity`` looks for those (``vanished``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.model.outcome import MailFlag, Outcome, Stage

if TYPE_CHECKING:
    from harness.store.history import ArmHistory

STATES = (
    "delivered", "duplicated", "corrupted", "quarantined", "queued", "bounced", "lost", "undetermined", "in_doubt",
    "rejected_but_delivered", "resurrected", "deferred", "refused", "never_attempted", "not_counted",
)
ROUNDS = (1, 2)
_PLANTED = int(MailFlag.GTUBE | MailFlag.EICAR)
_OK, _FAIL, _INFO = int(Outcome.OK), int(Outcome.FAIL), int(Outcome.INFO)

_BOX = """
CREATE TABLE boxes AS SELECT split_part(place, '/', 1) AS address, count(DISTINCT round) FILTER (source = 'mailbox') AS rounds,
    bool_and(complete) AS complete
  FROM scopes WHERE source IN ('mailbox', 'quarantine') AND round IN (1, 2) GROUP BY 1;
CREATE TABLE readable AS SELECT r.rcpt, coalesce(b.rounds = 2 AND b.complete, false) AS box
  FROM recipients r LEFT JOIN boxes b USING (address);
"""
_TRIES = f"""
CREATE TABLE tries AS
WITH i AS (SELECT mail, rcpt, count(*) AS n FROM invokes GROUP BY ALL),
d AS (SELECT mail, rcpt, count(*) AS n, count(*) FILTER (outcome = {_OK}) AS n_ok, count(*) FILTER (outcome = {_INFO}) AS n_info,
        count(*) FILTER (outcome = {_FAIL} AND stage = {int(Stage.DOT)} AND code BETWEEN 400 AND 499) AS n_dot4,
        min(t) FILTER (outcome = {_OK}) AS t_ok, arg_max(CASE WHEN code = 0 AND enhanced >= 50000 THEN 550 ELSE code END, attempt) AS last_code
      FROM dones GROUP BY ALL)
SELECT coalesce(i.mail, d.mail) AS mail, coalesce(i.rcpt, d.rcpt) AS rcpt, coalesce(i.n, 0) AS n_try, coalesce(d.n_ok, 0) AS n_ok,
  coalesce(d.n_info, 0) + greatest(coalesce(i.n, 0) - coalesce(d.n, 0), 0) AS n_info, coalesce(d.n_dot4, 0) AS n_dot4,
  d.t_ok, coalesce(d.last_code, 0) AS last_code
FROM i FULL OUTER JOIN d ON i.mail = d.mail AND i.rcpt = d.rcpt
"""
_OFFERED = """
CREATE TABLE offered AS SELECT mail, rcpt, min(t_due) AS t_due, min(sender) AS sender, min(population) AS population,
    bit_or(flags) AS flags, min(sha_lo) AS sha_lo, min(sha_hi) AS sha_hi FROM offers GROUP BY mail, rcpt
"""
#: Hashes of canonical forms are compared by 64 bits of them: ten million strings would not fit into memory.
_FOUND = """
CREATE TABLE found AS
WITH c AS (SELECT c.mail, r.rcpt, c.round, c.source, c.sha = '' AS unhashed, hash(c.sha) AS sha FROM copies c JOIN recipients r ON r.address = c.recipient
           WHERE c.mail IS NOT NULL)
SELECT mail, rcpt,
  greatest(count(*) FILTER (round = 1 AND source IN ('mailbox', 'sink')), count(*) FILTER (round = 2 AND source IN ('mailbox', 'sink')))::UINTEGER AS box,
  greatest(count(*) FILTER (round = 1 AND source = 'quarantine'), count(*) FILTER (round = 2 AND source = 'quarantine'))::UINTEGER AS quarantine,
  (count(*) FILTER (round = 1 AND source = 'queue'))::UINTEGER AS queue1, (count(*) FILTER (round = 2 AND source = 'queue'))::UINTEGER AS queue2,
  coalesce(bool_or(unhashed) FILTER (source <> 'queue'), false) AS unhashed,
  min(sha) FILTER (source <> 'queue' AND NOT unhashed) AS sha_min, max(sha) FILTER (source <> 'queue' AND NOT unhashed) AS sha_max
FROM c GROUP BY ALL
"""
_MORE = """
CREATE TABLE seen AS SELECT s.mail, r.rcpt, min(s.t) AS t FROM sights s JOIN recipients r ON r.address = split_part(s.mailbox, '/', 1) GROUP BY ALL;
CREATE TABLE again AS SELECT DISTINCT e.mail, e.mailbox FROM copies c JOIN expunged e ON c.mail = e.mail AND c.uid = e.uid AND lower(c.place) = e.mailbox;
CREATE TABLE deleted AS SELECT e.mail, r.rcpt, min(e.t) AS t, count(DISTINCT (e.mailbox, e.uid)) AS n, bool_or(b.mail IS NOT NULL) AS back
  FROM expunged e JOIN recipients r ON r.address = split_part(e.mailbox, '/', 1) LEFT JOIN again b USING (mail, mailbox) GROUP BY e.mail, r.rcpt;
CREATE TABLE meant AS SELECT DISTINCT d.mail, r.rcpt FROM deleting d JOIN recipients r ON r.address = split_part(d.mailbox, '/', 1);
CREATE TABLE halfway AS SELECT m.mail, r.rcpt, count(*) AS n FROM (SELECT DISTINCT mail, mailbox, uid FROM moving) m
  ANTI JOIN moved USING (mail, mailbox, uid) JOIN recipients r ON r.address = split_part(m.mailbox, '/', 1) GROUP BY ALL;
CREATE TABLE returned AS SELECT DISTINCT c.bounce_of AS mail, r.rcpt
  FROM (SELECT bounce_of, lower(unnest(failed)) AS address FROM copies WHERE bounce_of IS NOT NULL) c JOIN recipients r USING (address);
CREATE TABLE returned_whole AS SELECT DISTINCT bounce_of AS mail FROM copies WHERE bounce_of IS NOT NULL AND len(failed) = 0;
"""
#: One large table is joined at a time: the hash tables of several would have to fit into memory together.
_TRIED = """
CREATE TABLE tried AS
SELECT o.*, coalesce(t.n_try, 0)::INTEGER AS n_try, coalesce(t.n_ok, 0)::INTEGER AS n_ok, coalesce(t.n_info, 0)::INTEGER AS n_info,
  coalesce(t.n_dot4, 0)::INTEGER AS n_dot4, t.t_ok, coalesce(t.last_code, 0) AS last_code
FROM offered o LEFT JOIN tries t USING (mail, rcpt)
"""
_JOINED = """
CREATE TABLE joined AS
SELECT o.*,
  coalesce(f.box, 0)::INTEGER AS box, coalesce(f.quarantine, 0)::INTEGER AS quarantine, (coalesce(f.box, 0) + coalesce(f.quarantine, 0))::INTEGER AS n,
  coalesce(f.queue1, 0)::INTEGER AS queue1, coalesce(f.queue2, 0)::INTEGER AS queue2,
  coalesce(f.sha_min <> w.sha OR f.sha_max <> w.sha, false) AS bad, coalesce(f.unhashed, false) AS unhashed,
  s.t AS t_seen, x.t AS t_deleted, coalesce(x.n, 0)::INTEGER AS n_deleted, coalesce(x.back, false) AS back, w2.mail IS NOT NULL AS meant,
  coalesce(h.n, 0)::INTEGER AS n_halfway, b.mail IS NOT NULL OR bw.mail IS NOT NULL AS bounced,
  CASE WHEN o.flags & {internet} > 0 THEN {sinks} ELSE coalesce(r.box, false) END AND {queues} AS readable,
  {faults} AS n_faults
FROM tried o LEFT JOIN found f USING (mail, rcpt) LEFT JOIN seen s USING (mail, rcpt)
  LEFT JOIN deleted x USING (mail, rcpt) LEFT JOIN meant w2 USING (mail, rcpt) LEFT JOIN halfway h USING (mail, rcpt)
  LEFT JOIN returned b USING (mail, rcpt) LEFT JOIN returned_whole bw USING (mail)
  LEFT JOIN readable r USING (rcpt), LATERAL (SELECT hash(lower(printf('%016x%016x', o.sha_lo, o.sha_hi))) AS sha) w
"""
_FATES = """
CREATE TABLE fates AS
WITH e AS (SELECT *, greatest(n + n_deleted - 1, 0) AS extra,
             CASE WHEN n_ok > 0 THEN n_ok - 1 + n_info ELSE greatest(n_info - 1, 0) END + n_halfway AS free, n_ok > 0 OR n_info > 0 AS maybe FROM joined),
a AS (SELECT *, CASE WHEN maybe THEN least(extra, free) ELSE 0 END AS dup_explained FROM e),
b AS (SELECT *, CASE WHEN maybe THEN least(extra - dup_explained, coalesce(n_faults, 0)) ELSE 0 END AS dup_fault FROM a),
p AS (SELECT *, CASE WHEN maybe THEN least(extra - dup_explained - dup_fault, n_dot4) ELSE least(n, n_dot4) END AS dup_possible FROM b),
c AS (SELECT *, greatest(extra - dup_explained - dup_possible - dup_fault, 0) AS surplus FROM p)
SELECT mail, rcpt, t_due, sender, population, flags, n_try, n_ok, n_info, n_dot4, t_ok, last_code, n, box, quarantine, queue2, unhashed,
  readable, t_seen, dup_explained, dup_possible, dup_fault,
  n_deleted, CASE WHEN n > 0 AND n_deleted > 0 THEN 0 WHEN maybe OR n_dot4 > 0 THEN surplus ELSE 0 END AS dup_unexplained,
  n = 0 AND t_seen IS NOT NULL AND t_deleted IS NULL AND NOT meant AND queue2 = 0 AND readable AS vanished,
  CASE
    WHEN flags & {null_sender} > 0 THEN 'not_counted'
    WHEN n > 0 AND NOT maybe AND n_dot4 = 0 THEN 'rejected_but_delivered'
    WHEN n > 0 AND bad THEN 'corrupted'
    WHEN n > 0 AND n_deleted > 0 AND (back OR surplus > 0) THEN 'resurrected'
    WHEN n + n_deleted > 1 THEN 'duplicated'
    WHEN box > 0 THEN 'delivered'
    WHEN quarantine > 0 THEN 'quarantined'
    WHEN (queue2 > 0 OR queue1 > 0) AND NOT maybe AND n_dot4 = 0 THEN 'rejected_but_delivered'
    WHEN queue2 > 0 THEN 'queued'
    WHEN t_seen IS NOT NULL OR t_deleted IS NOT NULL OR meant THEN 'delivered'
    WHEN bounced THEN 'bounced'
    WHEN n_ok > 0 AND (NOT readable OR queue1 > 0) THEN 'undetermined'
    WHEN n_ok > 0 THEN 'lost'
    WHEN n_info > 0 THEN 'in_doubt'
    WHEN n_try = 0 THEN 'never_attempted'
    WHEN last_code >= 500 THEN 'refused'
    ELSE 'deferred' END AS state
FROM c
"""
_STRAYS = """
CREATE TABLE unmeant AS SELECT DISTINCT c.mail, c.recipient, c.place, c.source
FROM copies c LEFT JOIN recipients r ON r.address = c.recipient ANTI JOIN offered f ON f.mail = c.mail AND f.rcpt = r.rcpt WHERE c.mail IS NOT NULL;
CREATE TABLE strays AS SELECT u.*, CASE WHEN o.mail IS NULL THEN 'unknown' ELSE 'misdelivered' END AS kind
FROM unmeant u LEFT JOIN (SELECT DISTINCT mail FROM offers WHERE mail IN (SELECT mail FROM unmeant)) o USING (mail);
DROP TABLE unmeant
"""


@dataclass(frozen=True)
class Fates:
    """How the mails of one arm ended.

    :param counts: state → mails and recipients in it; every state of STATES is there.
    :param unread: places that the census did not read whole, with the reason; queues not looked at included.
    """

    arm: ArmHistory
    counts: Mapping[str, int]
    unread: tuple[str, ...]
    queues_read: bool

    @property
    def accepted(self) -> int:
        """Mails and recipients that were acknowledged at least once."""
        return int(self.arm.one("SELECT count(*) FROM fates WHERE n_ok > 0"))

    def sum(self, column: str, where: str = "true") -> int:
        """Sum of a column of ``fates``."""
        return int(self.arm.one(f"SELECT coalesce(sum({column}), 0) FROM fates WHERE state <> 'not_counted' AND {where}"))

    def where(self, condition: str, limit: int = 50) -> list[tuple[int, str]]:
        """(mail, recipient's address) of the first ``limit`` rows of ``fates`` that meet ``condition``, by number."""
        rows = self.arm.sql(
            f"SELECT f.mail, coalesce(r.address, '?') FROM fates f LEFT JOIN recipients r USING (rcpt) WHERE {condition} ORDER BY 1, 2 LIMIT {limit}"
        )
        return [(int(m), str(a)) for m, a in rows]


def settle(arm: ArmHistory) -> Fates:
    """Work out the fates of ``arm``; its tables ``fates`` and ``strays`` are there afterwards."""
    con = arm.tables.con
    for script in (_BOX, _TRIES, _OFFERED, _TRIED, "DROP TABLE tries", _FOUND, _MORE):
        con.execute(script)
    queues = _queue_gaps(arm)
    sinks = bool(arm.one("SELECT coalesce(bool_and(complete) AND count(DISTINCT round) = 2, false) FROM scopes WHERE source = 'sink'"))
    begun = sorted(e["t"] for e in arm.events("fault") if e.get("edge") == "begin")
    faults = " + ".join(["0", *(f"(coalesce(o.t_ok, {t + 1}) <= {t})::INTEGER" for t in begun)])
    con.execute(_JOINED.format(internet=int(MailFlag.TO_INTERNET), sinks=_sql(sinks), queues=_sql(not queues), faults=faults))
    con.execute("DROP TABLE tried; DROP TABLE found")
    con.execute(_FATES.format(null_sender=int(MailFlag.NULL_SENDER)))
    con.execute(_STRAYS)
    con.execute("DROP TABLE joined")
    found = dict(arm.sql("SELECT state, count(*) FROM fates GROUP BY ALL"))
    return Fates(arm, {s: int(found.get(s, 0)) for s in STATES}, (*queues, *_unread(arm)), not queues)


def kept_back(row: str) -> str:
    """SQL that holds for ``dones`` of mails that this side could not send to this server at all: no fault of a session."""
    return f"({row}.code = 0 AND {row}.enhanced >= 50000)"


def planted(column: str = "flags") -> str:
    """SQL that holds for mails that a filter should catch."""
    return f"{column} & {_PLANTED} > 0"


def _sql(value: bool) -> str:
    return "true" if value else "false"


def _queue_gaps(arm: ArmHistory) -> tuple[str, ...]:
    """Why the queues do not count as read twice: a round without any, one incomplete, a pod with a queue left out."""
    gaps = [] if "census.log" in arm.writers_closed and not _damaged(arm) else ["the census' log is not whole"]
    gaps += [
        f"round {r}, queue {place}: {why or 'not read whole'}"
        for r, place, why in arm.sql("SELECT round, place, why FROM scopes WHERE source = 'queue' AND NOT complete ORDER BY ALL")
    ]
    if arm.lacks("queues"):
        return (*gaps, *_unsettled(arm))
    read: dict[int, set[str]] = {n: set() for n in ROUNDS}
    for number, pod in arm.sql("SELECT DISTINCT round, split_part(place, ':', 1) FROM scopes WHERE source = 'queue'"):
        read.setdefault(int(number), set()).add(str(pod))
    for number in ROUNDS:
        if not read[number]:
            gaps.append(f"round {number}: no queue was read")
        gaps += [f"round {number}: the queue of {pod} was not read" for pod in sorted(_pods_with_queue(arm) - read[number]) if read[number]]
    return tuple(gaps)


def _unsettled(arm: ArmHistory) -> tuple[str, ...]:
    """Where queues cannot be listed, absence counts only after the whole wait, or when everything had arrived before."""
    for e in arm.events("settled"):
        if e.get("quiet") or float(e.get("waited_s") or 0) >= arm.plan.load.settle_s:
            return ()
    return (f"the queues cannot be listed, and the {arm.plan.load.settle_s:.0f} s for mail to arrive were not waited",)


def _damaged(arm: ArmHistory) -> bool:
    return any(d.path == "census.log" for d in arm.damages)


def _pods_with_queue(arm: ArmHistory) -> set[str]:
    """Pods there at the end whose queue the samplers had seen."""
    sampled = {str(e.get("pod")).lower() for e in arm.events("queue")}
    ended: list[dict[str, Any]] = [p for e in arm.events("pods_at_end") for p in e.get("pods", ())]
    return sampled & {str(p.get("name")).lower() for p in ended} if ended else sampled


def _unread(arm: ArmHistory) -> tuple[str, ...]:
    """Mailboxes of recipients, quarantines and sinks that were not read whole in both rounds."""
    gaps = arm.sql("SELECT round, source, place, why FROM scopes WHERE source <> 'queue' AND NOT complete ORDER BY ALL")
    internet = int(MailFlag.TO_INTERNET)
    never = arm.sql(
        "SELECT DISTINCT r.address FROM offers o JOIN recipients r USING (rcpt) LEFT JOIN boxes b USING (address) "
        f"WHERE o.flags & {internet} = 0 AND coalesce(b.rounds, 0) < 2 ORDER BY 1"
    )
    found = [f"round {r}, {source} {place}: {why or 'not read whole'}" for r, source, place, why in gaps]
    found += [f"mailbox {address}: not read in both rounds" for (address,) in never]
    if arm.one(f"SELECT count(*) FROM offers WHERE flags & {internet} > 0") and not arm.one("SELECT count(*) FROM scopes WHERE source = 'sink'"):
        found.append("no sink was read, and mail went to the internet")
    return tuple(found)
