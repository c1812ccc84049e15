"""Nothing leaves: rules on every node that drop what pods send to anything but pods, services and nodes.

Own nftables table ``inet mailgale_egress`` with hooks ``forward`` (pods) and ``output`` (the node's own programs, and
with them hostNetwork pods) at priority -10; applied again at each start of a node by a systemd unit. The host, that is
the gateway of the nodes' network, is outside as well. Limits: what a hostNetwork pod asks Docker's resolver at
127.0.0.11 is loopback and passes; privileged pods on the host network can remove the rules. Source: nft(8).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from harness.cluster import recipe
from harness.cluster.engine import Engine
from harness.errors import ClusterFailed, CommandFailed
from harness.support.checkout import Checkout

TABLE = ("inet", "mailgale_egress")
_UNIT = "etc/systemd/system/egress.service"
_SCRIPT = "usr/local/bin/egress"
_EXEC_S = 60


def apply(engine: Engine, checkout: Checkout, nodes: Sequence[str], networks: Iterable[str]) -> None:
    """Put the rules on every node, for now and for its next start. Applying them again changes nothing.

    :param nodes: node containers.
    :param networks: pod and service networks, as CIDRs; the nodes' own is added on each node.
    :raises ClusterFailed: a node cannot carry the rules; then nothing would keep mail in, and nothing may run.
    """
    text = installer(checkout, networks)

    def one(node: str) -> None:
        try:
            engine.docker("exec", "-i", node, "bash", "-s", input=text, timeout_s=_EXEC_S)
        except CommandFailed as error:
            raise ClusterFailed(f"the rules that keep mail in cannot be set: {error.what}", where=node) from error

    with ThreadPoolExecutor(len(nodes)) as pool:
        list(pool.map(one, nodes))


def installer(checkout: Checkout, networks: Iterable[str]) -> str:
    """The shell script that installs, enables and applies the rules on one node."""
    rootfs = recipe.folder(checkout) / "node-image" / "node" / "rootfs"
    lines = ["set -euo pipefail", "mkdir -p /etc/mailgale"]
    lines += ["cat > /etc/mailgale/networks <<'NETWORKS'", *networks, "NETWORKS"]
    for name in (_UNIT, _SCRIPT):
        lines += [f"cat > /{name} <<'END_OF_FILE'", (rootfs / name).read_text().rstrip("\n"), "END_OF_FILE"]
    lines += [f"chmod 755 /{_SCRIPT}", "systemctl -q enable egress", "systemctl restart egress"]
    return "\n".join([*lines, f"nft list table {' '.join(TABLE)} > /dev/null", ""])


def in_force(engine: Engine, node: str) -> bool:
    """Whether the node has the rules with both hooks right now."""
    found = engine.docker("exec", node, "nft", "-j", "list", "table", *TABLE, check=False)
    if found.code != 0:
        return False
    chains = {e["chain"].get("hook") for e in json.loads(found.stdout)["nftables"] if "chain" in e}
    return {"forward", "output"} <= chains and bool(dropping_rules(found.stdout))


def dropped(engine: Engine, node: str) -> int:
    """Packets the node has dropped since the rules were last applied: evidence that they work.

    :raises CommandFailed: the node has no rules.
    """
    found = engine.docker("exec", node, "nft", "-j", "list", "table", *TABLE)
    return sum(r["counter"]["packets"] for rule in dropping_rules(found.stdout) for r in rule if "counter" in r)


def dropping_rules(table: str) -> list[list[dict[str, dict[str, int]]]]:
    """The expressions of every rule that drops, out of ``nft -j``'s answer."""
    rules = [e["rule"]["expr"] for e in json.loads(table)["nftables"] if "rule" in e]
    return [rule for rule in rules if any("drop" in expression for expression in rule)]
