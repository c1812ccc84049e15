"""The planted defects: each a change to a history in which all was well, with the check that must see it.

``also`` names checks that may say FAIL beside it, since one defect can break several promises. A defect of the platform must come out
as FAIL, one of the harness as INCONCLUSIVE: it shows nothing about the platform.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.model.verdict import Status
from harness.selftest import dns as d
from harness.selftest import plant_harness as h
from harness.selftest import plant_platform as p
from harness.selftest.builder import HistoryBuilder
from harness.store.run import RunDir

Plant = Callable[[HistoryBuilder], object]
Spoil = Callable[[RunDir], object]
_FAIL, _UNSURE = Status.FAIL, Status.INCONCLUSIVE


@dataclass(frozen=True)
class Defect:
    """One planted defect.

    :param planted: how, in words. :param plant: done to the history before it is written.
    :param base: which good history: ``1x``, ``2x``, ``1x-limit``, ``2x-limit``, ``kill`` (an mx pod killed), ``drain`` (a node drained),
        ``dns`` (DNS counted).
    :param spoil: done to the run's directory after it was sealed.
    :param also: other checks that may FAIL.
    """

    name: str
    planted: str
    check: str
    status: Status
    plant: Plant = lambda history: None
    base: str = "1x"
    spoil: Spoil = lambda run: None
    also: frozenset[str] = frozenset()


def _platform(name: str, planted: str, check: str, plant: Plant, *, base: str = "1x", also: tuple[str, ...] = ()) -> Defect:
    return Defect(name, planted, check, _FAIL, plant, base, also=frozenset(also))


def _harness(name: str, planted: str, check: str, plant: Plant = lambda b: None, *, base: str = "1x", spoil: Spoil = lambda r: None) -> Defect:
    return Defect(name, planted, check, _UNSURE, plant, base, spoil)


#: The platform lost, doubled, damaged, delayed or refused mail.
PLATFORM: tuple[Defect, ...] = (
    _platform("acknowledged then dropped, all", "no acknowledged mail is anywhere", "no-loss", p.drop_every(1)),
    _platform("acknowledged then dropped, 1 in 100", "every 100th acknowledged mail is nowhere", "no-loss", p.drop_every(100)),
    _platform("everything refused with 4xx", "451 to every RCPT", "availability", p.refuse_all),
    _platform("duplicated on LMTP retry", "a second copy of one mail, acknowledged once", "no-unexplained-duplicates", p.on(lambda a: a.duplicate(9))),
    _platform("body truncated", "one real message cut in the middle of its body", "integrity", p.truncate),
    _platform("charset damaged", "octets of UTF-8 relabelled ISO 8859-1 in one real message", "integrity", p.damage_charset),
    _platform("wrong mailbox", "one mail in another user's mailbox", "integrity", p.on(lambda a: a.misdeliver(9)), also=("no-loss",)),
    _platform("bounced instead of deferred", "a DSN with Action: failed for a valid user", "integrity", p.on(lambda a: a.bounce(9))),
    _platform("unplanted mail quarantined", "an ordinary mail in Junk only", "integrity", p.on(lambda a: a.quarantine(9))),
    _platform("rejected but delivered", "554 to the dot, a copy in the mailbox", "integrity", p.reject_and_deliver),
    _platform("expunged mail back", "a mail that its reader expunged is in the mailbox", "integrity", p.resurrect),
    _platform("expunged mail back after a kill", "expunged, then there again under its old UID since a pod was killed", "integrity", p.resurrect_by_kill, base="kill"),
    _platform("duplicate, both deleted", "two copies of a mail acknowledged once, both deleted by their reader", "no-unexplained-duplicates", p.duplicate_and_delete),
    _platform("lost in a move", "OK to MOVE, and the mail is in neither mailbox", "no-loss", p.lose_in_a_move),
    _platform("POP DELE ignored", "+OK to QUIT after DELE, and the mail is still there", "integrity", p.ignore_dele),
    _platform("mail seen, then gone", "a reader saw it, nobody deleted it, the census does not find it", "integrity", p.vanish),
    _platform("flag lost", "one of the two flags that STORE's OK promised is on no copy", "mailbox-state", p.lose_a_flag),
    _platform("all flags lost", "every mail is there, no flag is: a mailbox brought back without its index", "mailbox-state", p.lose_all_flags),
    _platform("UIDVALIDITY changed", "another UIDVALIDITY in the second round of one mailbox", "mailbox-state", p.renumber),
    _platform("UIDVALIDITY changed since a user saw it", "another UIDVALIDITY than during the load", "mailbox-state", p.renumber_since),
    _platform("POP UIDL changed", "a mail that the load read by POP3 has another unique ID in the census", "mailbox-state", p.rename((1, 2))),
    _platform("POP UIDL changed between the rounds", "another unique ID in the second round", "mailbox-state", p.rename((2,))),
    _platform("queue on emptyDir", "the killed pod took 30 acknowledged mails with it", "no-loss", p.lose_with_the_pod, base="kill"),
    _platform("queue stranded by scale-in", "12 mails in the volume of a pod that runs no more", "queue-drained", p.strand, base="2x"),
    _platform("two masters on one spool", "40 mails delivered by both, no fault that explains it", "no-unexplained-duplicates", p.two_masters),
    _platform("rate limit per pod instead of shared", "two pods let each sender through twice", "rate-control", p.limit_per_pod, base="2x-limit"),
    _platform("permanent 5xx instead of 4xx", "554 where the limit should say 451", "rate-control", p.refuse_over_the_limit, base="1x-limit",
              also=("availability", "delivery-latency")),
    _platform("rate limit that never lets through", "the limit defers 20 mails to the end", "rate-control", p.defer_for_ever, base="1x-limit"),
    _platform("ordinary mail pays for the burst", "ordinary mail is seen 90 s late", "delivery-latency", p.delay_ordinary),
    _platform("probe that passes while RCPT hangs", "the pod is Ready, every 2nd RCPT gets no answer", "availability", p.hang_at_rcpt),
    _platform("readiness that fails on a shared dependency", "all pods leave the Service for 6 s, no fault was planned", "availability", p.all_unready),
    _platform("pod IPs pinned", "after the pod was replaced every connection fails", "availability", p.pin_addresses, base="kill"),
    _platform("grace period too short", "sessions cut behind the dot at the kill: 40 mails come twice", "no-unexplained-duplicates",
              p.cut_at_the_kill, base="kill"),
)
#: The same with the 30,000 mails that a loss of 1 in 10,000 needs.
BIG: tuple[Defect, ...] = (
    _platform("acknowledged then dropped, 1 in 10,000", "every 10,000th of 30,000 acknowledged mails is nowhere", "no-loss", p.drop_of_many),
)
#: The harness itself was broken: nothing is shown, so nothing may pass.
HARNESS: tuple[Defect, ...] = (
    _harness("rate limit off", "the limit defers nothing, so it was not put to the test", "rate-control", h.no_deferrals, base="1x-limit"),
    _harness("fault that did nothing", "evidence is claimed, the samplers see the same UID", "faults-happened", h.did_nothing, base="kill"),
    _harness("fault that crashed", "the action failed, chaostoolkit says completed", "faults-happened", h.crashed, base="kill"),
    _harness("fault that never struck", "its log is there and empty", "faults-happened", h.never_struck, base="kill"),
    _harness("fault outside the load", "it began after the load's end", "faults-happened", h.too_late, base="kill"),
    _harness("fault not undone", "no 'undone' is on record", "faults-happened", h.not_undone, base="kill"),
    _harness("drain that skipped pods", "one pod of the drained node was left out and never moved", "faults-happened", h.drain_skips, base="drain"),
    _harness("drain that moved nothing", "its evidence lists a pod whose UID stayed", "faults-happened", h.drain_moves_nothing, base="drain"),
    _harness("generator saturated", "schedule lag p99 0.9 s", "load-was-real", p.on(lambda a: a.saturate_generator())),
    _harness("host saturated", "97 % of the host's CPUs in use", "load-was-real", p.on(lambda a: a.saturate_host())),
    _harness("load stopped early", "the load ended with 'stopped'", "load-was-real", h.stopped),
    _harness("hardly any load", "50 attempts", "load-was-real", h.hardly_any),
    _harness("recorder killed", "the observer's log ends in the middle, without its end mark", "evidence-complete", p.on(lambda a: a.cut_log("observe.log", 35))),
    _harness("load's recorder killed", "the ledger ends in the middle, without its end mark", "evidence-complete", p.on(lambda a: a.cut_log("load-1.log", 35))),
    _harness("census killed", "the census' log has no end mark", "evidence-complete", p.on(lambda a: a.unclosed.add("census.log"))),
    _harness("samples missing", "18 s without a sample of the host", "evidence-complete", h.hole),
    _harness("clock jumped forward", "the load's clock is 20 s ahead from second 40 on", "evidence-complete", h.clock(20.0)),
    _harness("clock jumped back", "the load's clock is 5 s behind from second 40 on", "evidence-complete", h.clock(-5.0)),
    _harness("half a history", "everything after second 38 is missing in every log", "evidence-complete", h.half),
    _harness("a log missing", "there is no ledger", "evidence-complete", p.on(lambda a: a.absent.add("load-1.log"))),
    _harness("one round of census", "the second round was not taken", "evidence-complete", h.one_round),
    _harness("a mailbox not read", "a lost mail's mailbox could not be read", "no-loss", h.unread_mailbox),
    _harness("a queue not read", "one mail is lost, one queue could not be read", "no-loss", h.unread_queue),
    _harness("a pod's queue forgotten", "one mail is lost, the second pod's queue was not looked at", "no-loss", h.forgotten_queue, base="2x"),
    _harness("flags not looked for", "users marked mail, the census asked for no flags", "mailbox-state", h.flags_not_looked_for),
    _harness("no flag was set", "the load was to mark mail and did not", "mailbox-state", h.nobody_marked),
    _harness("one bit turned in the ledger", "a bit of load-1.log is another after the seal", "evidence-complete", spoil=h.turn_a_bit),
    _harness("a log cut after the seal", "observe.log has lost its last octets", "evidence-complete", spoil=h.cut_after_the_seal),
    _harness("never sealed", "there is no seal.json", "evidence-complete", spoil=h.unseal),
    _harness("DNS capture that dropped packets", "3 packets of one pod were dropped by the kernel", "dns-account", p.on(d.drop_packets), base="dns"),
    _harness("DNS layer not captured", "unbound's pods were left out", "dns-account", p.on(d.forget_layer), base="dns"),
    _harness("DNS residual", "5 % of CoreDNS' upstream queries have no reason", "dns-account", p.on(d.residual(0.05)), base="dns"),
    _harness("DNS server that counted more", "unbound counted 5 % more queries than were captured of it", "dns-account", p.on(d.counted_otherwise("received", 0.05)), base="dns"),
    _harness("DNS query lost on the wire", "one query of an application came to no CoreDNS", "dns-account", p.on(d.lose_on_the_wire), base="dns"),
    _harness("an arm that was not run", "the plan's second arm has no directory", "evidence-complete", base="1x+2x", spoil=h.remove_an_arm),
)
#: Of the list of known-bad stacks, what no history can express, and why.
NOT_EXPRESSIBLE: dict[str, str] = {}


def base_history(root: Path, base: str) -> HistoryBuilder:
    """The good history that a defect is planted in; one arm unless ``base`` is ``1x+2x``."""
    from harness.selftest.friday import drain_plan, kill_plan, limited_plan, plant_drain, plant_kill

    if base == "dns":
        return d.dns_history(root, ("ndots-5",))
    if base in ("kill", "drain"):
        made = HistoryBuilder(root, kill_plan() if base == "kill" else drain_plan(), arms=["queue-on-pvc"])
        (plant_kill if base == "kill" else plant_drain)(made.arms[0])
        return made
    return HistoryBuilder(root, limited_plan(), arms=base.split("+"))
