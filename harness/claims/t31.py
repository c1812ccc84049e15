"""T31: a DNS cache on every node is a must.

Compares the arm without ``node-local-dns`` with the one that differs by it alone, block by block. What it spares: queries for names outside the
cluster that reach cluster DNS and unbound, for each 1,000 mails; what it gives: the time of a look-up and of ordinary mail. *Must* means that mail suffers
without it: look-ups fail (more than 0.1 %), or ordinary mail's p99 is 1.2 times as long with its whole interval (from 6 blocks on; a p99 of one block
rests on a mail or two). *Confirmed* when it spares half of the queries of cluster DNS or unbound and mail suffers without it (from 6 blocks on);
*confirmed under conditions* when it spares half, but that mail suffers was not shown (or with fewer blocks); *refuted* when it spares less than half.
How much is spared goes with rate and TTL over the number of names, which the plan chooses: it is always a condition.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.claims.dns_layers import dns_figures
from harness.claims.pairs import arms_apart, pairs, ratio
from harness.claims.stats import BLOCKS_MIN, Ratio
from harness.model.plan import Plan
from harness.model.verdict import ClaimResult, Finding
from harness.store.dns import lookups
from harness.store.history import ArmHistory
from harness.store.latency import ordinary_latency

CLAIM = "T31"
VARIANT, FORCED = "node-local-dns", "node-local-dns-tcp"
SPARED_RATIO_MAX = 0.5
FAILED_SHARE_MAX = 0.001
SLOWER_MIN = 1.2
_AT = "at this rate, with these names and TTLs"


def find(arms: Sequence[ArmHistory], plan: Plan) -> Finding:
    """What the run says of T31."""
    names = arms_apart(plan, VARIANT)
    found = pairs(arms, *names) if names else []
    if names is None or not found:
        return Finding(CLAIM, ClaimResult.UNDECIDED, f"no block has two arms that differ by {VARIANT} alone")
    spared = {n: ratio(found, _figure(f"dns_{n}_per_1000")) for n in ("cluster", "unbound")}
    cluster, unbound = spared["cluster"], spared["unbound"]
    if cluster is None or unbound is None:
        return Finding(CLAIM, ClaimResult.UNDECIDED, "the queries that reached cluster DNS and unbound were not counted in both arms of every block")
    figures = cluster.figures("cluster_queries") | unbound.figures("unbound_queries") | {"blocks": float(len(found))}
    slower, looked, failed = ratio(found, _mail_p99), ratio(found, _figure("lookup_p99_ms")), _failed_share([a for a, _ in found])
    for name, one in (("ordinary_p99", slower), ("lookup_p99", looked)):
        figures |= one.figures(name) if one else {}
    if failed is not None:
        figures["failed_without_share"] = round(failed, 5)
    return _decide(cluster, unbound, slower, looked, failed, figures)


def _decide(
    cluster: Ratio, unbound: Ratio, slower: Ratio | None, looked: Ratio | None, failed: float | None, figures: dict[str, float]
) -> Finding:
    told = f"with a cache on every node {cluster.text} of the queries per mail reach cluster DNS, {unbound.text} reach unbound"
    told += f"; look-up p99 {looked.text}" if looked else ""
    told += f"; ordinary mail p99 {slower.text}" if slower else ""
    if min(cluster.value, unbound.value) > SPARED_RATIO_MAX:
        return Finding(CLAIM, ClaimResult.REFUTED, told, figures, _AT)
    later = slower is not None and slower.high is not None and slower.high < 1 / SLOWER_MIN
    missing = [] if (failed or 0.0) > FAILED_SHARE_MAX or later else ["that mail or look-ups suffer without it was not shown: it spares, whether it is a must is open"]
    if cluster.n < BLOCKS_MIN:
        missing.append(f"n={cluster.n} of {BLOCKS_MIN} blocks, no interval")
    result = ClaimResult.CONFIRMED_UNDER_CONDITIONS if missing else ClaimResult.CONFIRMED
    return Finding(CLAIM, result, told, figures, "; ".join([*missing, _AT]))


def _figure(name: str) -> Callable[[ArmHistory], float | None]:
    return lambda arm: dns_figures(arm).get(name)


def _mail_p99(arm: ArmHistory) -> float | None:
    found = ordinary_latency(arm)
    return found.p99_ms if found and found.watched else None


def _failed_share(arms: Sequence[ArmHistory]) -> float | None:
    found = [seen for a in arms if (seen := lookups(a)) is not None]
    count = sum(s.count for s in found)
    return sum(s.failed for s in found) / count if count else None
