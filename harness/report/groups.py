"""Which figures of an arm stand under which heading, in which order and words, and which of them alarm when above 0."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """One row.

    :param figure: its name in the verdict.
    :param mood: how a value above 0 looks: "", ``bad`` or ``doubt``.
    :param fold: where it is 0 in every arm it is only named below the table.
    :param brief: it stands in the terminal's summary as well.
    """

    figure: str
    name: str
    mood: str = ""
    fold: bool = False
    brief: bool = False


MAIL = (
    Entry("offered", "offered", brief=True),
    Entry("accepted", "accepted", brief=True),
    Entry("delivered", "delivered", brief=True),
    Entry("lost", "lost", "bad", brief=True),
    Entry("duplicated", "duplicated", brief=True),
    Entry("duplicates_unexplained", "duplicates without a reason", "bad", brief=True),
    Entry("duplicates_explained", "duplicates explained by a retry or fault", fold=True),
    Entry("duplicates_possible", "duplicates after a 4xx to the final dot", "doubt", fold=True),
    Entry("corrupted", "corrupted", "bad", fold=True, brief=True),
    Entry("misdelivered", "misdelivered", "bad", fold=True, brief=True),
    Entry("rejected_but_delivered", "rejected but delivered", "bad", fold=True),
    Entry("bounced", "bounced", "bad", fold=True, brief=True),
    Entry("quarantined", "quarantined", fold=True, brief=True),
    Entry("quarantined_unplanted", "quarantined without a reason", "bad", fold=True),
    Entry("unknown", "copies of unknown mail", "doubt", fold=True),
    Entry("queued", "still queued", "doubt", fold=True, brief=True),
    Entry("undetermined", "undetermined", "doubt", brief=True),
    Entry("in_doubt", "in doubt: cut off after the final dot", fold=True),
    Entry("refused", "refused for good", "doubt", fold=True),
    Entry("never_accepted", "never accepted", "doubt", fold=True),
)
ATTEMPTS = (
    Entry("attempts", "attempts"),
    Entry("retries", "retries"),
    Entry("amplification", "attempts per mail", brief=True),
    Entry("deferred", "deferred (4xx)"),
    Entry("deferred_planned", "… by a planned limit", brief=True),
    Entry("deferred_greylist", "deferred by greylisting", fold=True),
    Entry("deferred_system", "… by a system failure", "doubt", brief=True),
    Entry("connections_failed", "ended without a reply", "doubt", fold=True),
    Entry("attempts_in_doubt", "outcome unknown", "doubt", fold=True),
)
RATES = (
    Entry("intake_per_s", "taken in, per second", brief=True),
    Entry("intake_window_s", "… measured over (every sender had backlog)"),
    Entry("goodput_per_s", "delivered to mailboxes, per second", brief=True),
    Entry("delivered_s", "… measured until the whole burst was there"),
    Entry("queue_max", "longest queue", brief=True),
    Entry("queue_oldest_s", "oldest mail in a queue"),
    Entry("drain_s", "queues empty after the load", brief=True),
)
LATENCY = (
    Entry("ordinary", "ordinary mails"),
    Entry("ordinary_unseen", "ordinary mails never seen by their reader", "doubt", fold=True),
    Entry("ordinary_p50_ms", "delivery of ordinary mail, p50", brief=True),
    Entry("ordinary_p99_ms", "delivery of ordinary mail, p99", brief=True),
    Entry("imap_p50_ms", "IMAP operations, p50"),
    Entry("imap_p99_ms", "IMAP operations, p99", brief=True),
    Entry("pop3_p50_ms", "POP3 operations, p50"),
    Entry("pop3_p99_ms", "POP3 operations, p99"),
)
DNS = (
    Entry("dns_node_per_1000", "queries to node caches, per 1,000 mails"),
    Entry("dns_cluster_per_1000", "queries to cluster DNS for names outside, per 1,000 mails", brief=True),
    Entry("dns_cluster_internal_per_1000", "… for names of the cluster (the edge's included)"),
    Entry("dns_unbound_per_1000", "queries to unbound, per 1,000 mails", brief=True),
    Entry("dns_node_hit_share", "cache hits, node caches"),
    Entry("dns_cluster_hit_share", "cache hits, cluster DNS (names outside)"),
    Entry("dns_internal_tcp_share", "by TCP to cluster DNS: names of the cluster"),
    Entry("dns_reverse_tcp_share", "… reverse names"),
    Entry("dns_other_tcp_share", "… all other names"),
    Entry("dns_unbound_tcp_share", "by TCP to unbound", brief=True),
    Entry("dns_unbound_slots_max", "most TCP slots of an unbound in use at a sample"),
    Entry("lookups", "look-ups from inside pods"),
    Entry("lookups_failed", "… without an answer", "bad"),
    Entry("lookup_p50_ms", "look-up, p50"),
    Entry("lookup_p99_ms", "look-up, p99", brief=True),
    Entry("outgoing", "mails that left by MX"),
    Entry("outgoing_deferred_by_dns", "… attempts that DNS deferred (4.4.3)", "doubt"),
    Entry("outgoing_held_up", "… mails that DNS held up", "doubt", brief=True),
    Entry("outgoing_bounced", "… bounced", "bad"),
    Entry("outgoing_p50_ms", "time in the queue of mail that leaves, p50"),
    Entry("outgoing_p99_ms", "time in the queue of mail that leaves, p99", brief=True),
    Entry("outgoing_longest_held_s", "longest of a mail that DNS held up"),
)
LOAD = (
    Entry("burst_s", "burst"),
    Entry("load_s", "load"),
    Entry("throttled_share", "CPU periods throttled, mx", brief=True),
    Entry("mailbox_throttled_share", "CPU periods throttled, mailbox"),
    Entry("host_cpu_share", "CPUs of the host in use, mean"),
)
DNS_COUNTED = (
    Entry("dns_application_per_mail", "DNS queries per mail", brief=True),
    Entry("dns_cluster_dns_per_mail", "… that reach cluster DNS"),
    Entry("dns_unbound_per_mail", "… that reach unbound", brief=True),
    Entry("dns_authoritative_per_mail", "… that reach the authoritative server"),
)
GROUPS = (("Mail", MAIL), ("Attempts", ATTEMPTS), ("Rates and queues", RATES), ("Latency", LATENCY), ("DNS", DNS), ("Load", LOAD), ("DNS queries", DNS_COUNTED))
#: Shown in the table of refusals, in more detail.
ELSEWHERE = ("deferred_",)
#: (figure, name, figure that gives it its mood, mood, check that a planned failure of it is) of the big numbers on top,
#: summed over all arms.
TILES = (
    ("accepted", "accepted", "", "", ""), ("delivered", "delivered", "", "", ""), ("deferred", "deferred attempts", "", "", ""),
    ("lost", "lost", "lost", "bad", "no-loss"),
    ("duplicated", "duplicated", "duplicates_unexplained", "bad", "no-unexplained-duplicates"),
    ("undetermined", "undetermined", "undetermined", "doubt", ""),
)  # fmt: skip
