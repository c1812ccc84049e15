"""What the variant ``node-local-dns`` changes on nodes: an address and a table of rules; allowed on our own nodes only, and gone after the stack.

The pods take both away when they stop in order; a killed one leaves them, as node-cache does (kubernetes/dns issues 438, 453).
So they are looked for on every node once the namespace is gone, removed if they are this namespace's, and looked for again.
Sources: nft(8), ip-address(8), kubernetes/dns cmd/node-cache. Known limit: nodes are reached as containers of this machine (kind).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from harness.errors import CleanupIncomplete, CommandFailed, GuardRefused
from harness.model.target import Target
from harness.support.shell import run

#: On workloads that change their nodes.
LABEL = "mailgale.dev/changes-nodes"
ADDRESS = "169.254.20.10"
TABLE = "mailgale_node_cache"
_LINK = "nodelocaldns"
_EXEC_S = 30.0
#: "owner=<namespace>" of the table, then "address=<device>" for the address.
_LOOK = f"""
nft list table ip {TABLE} 2>/dev/null | sed -n 's/^[[:space:]]*comment "\\(.*\\)"$/owner=\\1/p' | head -1
ip -o address show to {ADDRESS} | awk '{{print "address=" $2; exit}}'
"""
#: The table last: without it nobody would know whose the address is.
_CLEAR = f"""
dev=$(ip -o address show to {ADDRESS} | awk '{{print $2; exit}}')
[ -z "$dev" ] || ip address del {ADDRESS}/32 dev "$dev"
ip link delete {_LINK} 2>/dev/null
nft delete table ip {TABLE}
"""


def allow(target: Target, manifests: Sequence[Mapping[str, Any]], namespace: str) -> None:
    """Refuse workloads that would change nodes which are not ours, or that have a DNS cache already.

    :raises GuardRefused: either.
    """
    changing = [str(m["metadata"]["name"]) for m in manifests if (m["metadata"].get("labels") or {}).get(LABEL)]
    if not changing:
        return
    if not target.ours:
        raise GuardRefused(f"{', '.join(changing)} sets an address and rules on the nodes, which are ours on kind only", where=target.name,
                           todo="--target kind, or leave the variant out")
    for node, found in _each(target, _LOOK):
        if found and found.get("owner", "") != namespace:
            whose = f"that of {found['owner']}" if found.get("owner") else f"{ADDRESS} is on {found['address']} already"
            raise GuardRefused(f"there is a second DNS cache on this node: {whose}", where=node, todo="mailgale stack down, or remove it")


def clear(target: Target, namespace: str) -> list[str]:
    """Take away what the caches of ``namespace`` left on the nodes; the nodes where something was.

    :raises CleanupIncomplete: it is still there, or a node cannot be looked at (exit 10).
    """
    if not target.ours:
        return []
    try:
        left = [node for node, found in _each(target, _LOOK) if found.get("owner") == namespace]
        for node in left:
            _exec(node, _CLEAR)
        still = [node for node, found in _each(target, _LOOK, left) if found] if left else []
    except CommandFailed as error:
        raise CleanupIncomplete(f"whether a node cache's rules are left cannot be seen: {error.what}", where=error.where, todo="mailgale stack down") from error
    if still:
        raise CleanupIncomplete(f"address {ADDRESS} or table ip {TABLE} is still on {', '.join(still)}", where=namespace, todo="mailgale stack down")
    return left


def _each(target: Target, script: str, nodes: Sequence[str] = ()) -> Iterator[tuple[str, dict[str, str]]]:
    """What ``script`` says on each running node (one that does not run has neither rules nor addresses)."""
    names = [n for n in (nodes or [n.name for n in target.nodes]) if _runs(n)]
    with ThreadPoolExecutor(4) as pool:
        for name, text in zip(names, pool.map(lambda n: _exec(n, script), names), strict=True):
            yield name, dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def _runs(node: str) -> bool:
    found = run(["docker", "inspect", "--format", "{{.State.Running}}", node], timeout_s=_EXEC_S, check=False)
    return found.code == 0 and found.stdout.strip() == "true"


def _exec(node: str, script: str) -> str:
    return run(["docker", "exec", node, "sh", "-c", script + "\ntrue"], timeout_s=_EXEC_S).stdout
