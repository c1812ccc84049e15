"""Rules of nft(8) that break a network namespace, what they have counted, and how they are taken away again.

A table of our own with hooks at priority -300, before connection tracking, so established flows are hit as well. Loopback and neighbour
discovery always pass. Known limit: a rejected IPv6 packet on its way out is dropped without an answer to its own sender (seen on Linux 6.18),
which then waits as with ``drop``. Sources: nft(8) (numgen, limit, reject), tc-netem(8).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.chaos.nodes import FaultFailed, Nodes
from harness.errors import CommandFailed, NotSupported
from harness.support.shell import Completed, tail

#: Runs a command inside the namespace that is meant, with this text as its input; the exit code is the caller's to judge.
Inside = Callable[[list[str], str | None], Completed]
DIRECTIONS, FAMILIES = ("both", "in", "out"), ("both", "ipv4", "ipv6")
#: What becomes of a packet that a rule meets, by name; ``{share}`` in 1/10,000, ``{rate}`` in kbytes a second.
VERDICTS = {
    "drop": "counter drop",
    "reject": "counter reject with icmpx admin-prohibited",
    "reset": "meta l4proto tcp counter reject with tcp reset",
    "loss": "numgen random mod 10000 < {share} counter drop",
    "rate": "limit rate over {rate} kbytes/second counter drop",
}
_HOOKS = {"in": ("input", "iifname", "saddr"), "out": ("output", "oifname", "daddr")}
#: The answers that these verdicts give are packets too, and must get away.
_ANSWERS = {
    "reject": ("icmp type destination-unreachable accept", "icmpv6 type destination-unreachable accept"),
    "reset": ("tcp flags & rst == rst accept",),
}
_NEIGHBOURS = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert } accept"
_LACKING = ("No such file or directory", "Operation not supported", "not supported")


@dataclass(frozen=True)
class Rules:
    """What is broken.

    :param verdict: a key of VERDICTS.
    :param direction: ``in`` (to the namespace), ``out`` or ``both``. :param family: ``ipv4``, ``ipv6`` or ``both``.
    :param peers: only traffic with these addresses; () = all but ``spared``.
    :param spared: addresses that pass where no peers are named: the node's own, since a kubelet next door has no network between.
    :param port: only TCP with this port on either side; 0 = all.
    """

    verdict: str
    direction: str = "both"
    family: str = "both"
    peers: tuple[str, ...] = ()
    spared: tuple[str, ...] = ()
    port: int = 0
    share: float = 0.0
    kbytes_per_s: int = 0

    def __post_init__(self) -> None:
        if self.direction not in DIRECTIONS or self.family not in FAMILIES or self.verdict not in VERDICTS:
            raise FaultFailed(f"unknown: {self.verdict}, {self.direction} or {self.family}", todo=f"{', '.join(DIRECTIONS)}; {', '.join(FAMILIES)}")
        if self.verdict == "loss" and not 0 < self.share <= 1:
            raise FaultFailed(f"a share of {self.share} cannot be lost; it lies above 0 and is at most 1")
        if self.verdict == "rate" and self.kbytes_per_s < 1:
            raise FaultFailed("a rate of at least 1 kbyte a second is needed")

    def text(self, table: str) -> str:
        """The whole table as nft reads it; applying it again replaces it in one transaction."""
        chains = "\n".join(self._chain(d) for d in ("in", "out") if self.direction in ("both", d))
        return f"table inet {table}\ndelete table inet {table}\ntable inet {table} {{\n{chains}\n}}\n"

    def _chain(self, direction: str) -> str:
        hook, interface, address = _HOOKS[direction]
        lines = [f"type filter hook {hook} priority -300; policy accept;", f'{interface} "lo" accept', _NEIGHBOURS]
        lines += _ANSWERS.get(self.verdict, ())
        spared = () if self.peers else self.spared
        lines += [f"{ip} {address} {{ {', '.join(found)} }} accept" for ip, found in _by_family(spared)]
        lines += [f"{match}{self._verdict()}" for family in self._matches(address) for match in self._ports(family)]
        return f"  chain {direction} {{\n    " + "\n    ".join(lines) + "\n  }"

    def _matches(self, address: str) -> list[str]:
        wanted = {"ip": "ipv4", "ip6": "ipv6"}
        if self.peers:
            found = [f"{ip} {address} {{ {', '.join(them)} }} " for ip, them in _by_family(self.peers) if self.family in ("both", wanted[ip])]
        else:
            found = [f"meta nfproto {f} " for f in wanted.values() if self.family in ("both", f)]
        if not found:
            raise FaultFailed(f"the peers have no {self.family} address, so nothing would be hit", where=", ".join(self.peers))
        return found

    def _ports(self, match: str) -> list[str]:
        return [f"{match}tcp {side} {self.port} " for side in ("sport", "dport")] if self.port else [match]

    def _verdict(self) -> str:
        return VERDICTS[self.verdict].format(share=max(1, round(self.share * 10000)), rate=self.kbytes_per_s)


def _by_family(addresses: Iterable[str]) -> list[tuple[str, list[str]]]:
    known = sorted(set(addresses))
    both = [("ip", [a for a in known if ":" not in a]), ("ip6", [a for a in known if ":" in a])]
    return [(ip, found) for ip, found in both if found]


def apply(inside: Inside, table: str, rules: Rules) -> None:
    """Put the rules in force and read them back.

    :raises NotSupported: this kernel lacks what they need. :raises FaultFailed: they are not in force.
    """
    done = inside(["nft", "-f", "-"], rules.text(table))
    if done.code != 0:
        why = tail(done.stderr)
        raise NotSupported(f"this kernel does not take '{rules.verdict}': {why}") if any(t in why for t in _LACKING) else FaultFailed(f"nft: {why}")
    if packets(inside, table) is None:
        raise FaultFailed("the rules are not in force although nft took them")


def packets(inside: Inside, table: str) -> dict[str, int] | None:
    """Packets that were hit so far, by direction; None when there is no such table."""
    done = inside(["nft", "-j", "list", "table", "inet", table], None)
    if done.code != 0:
        return None
    found: dict[str, int] = {}
    for rule in (e["rule"] for e in json.loads(done.stdout)["nftables"] if "rule" in e):
        for counter in (x["counter"] for x in rule["expr"] if "counter" in x):
            found[rule["chain"]] = found.get(rule["chain"], 0) + int(counter["packets"])
    return found


def remove(inside: Inside, table: str) -> str:
    """Take the table away and read that back; "" or what is left. Idempotent."""
    inside(["nft", "delete", "table", "inet", table], None)
    listed = inside(["nft", "-j", "list", "tables"], None)
    if listed.code != 0:
        return f"the tables cannot be listed: {tail(listed.stderr)}"
    left = [e["table"]["name"] for e in json.loads(listed.stdout)["nftables"] if "table" in e]
    return f"table inet {table} is still there" if table in left else ""


def delay(inside: Inside, interface: str, delay_ms: float, jitter_ms: float) -> None:
    """Have what leaves by ``interface`` wait.

    :raises NotSupported: this kernel has no netem. :raises FaultFailed: tc says no.
    """
    words = ["tc", "qdisc", "add", "dev", interface, "root", "netem", "delay", f"{delay_ms:g}ms", f"{jitter_ms:g}ms"]
    done = inside(words, None)
    if done.code != 0 and "qdisc kind is unknown" in done.stderr:
        raise NotSupported("packets cannot be delayed: this kernel has no netem (CONFIG_NET_SCH_NETEM)")
    if done.code != 0:
        raise FaultFailed(f"tc: {tail(done.stderr)}")


def delayed(inside: Inside, interface: str) -> int | None:
    """Packets that waited so far; None when nothing delays them."""
    done = inside(["tc", "-s", "-j", "qdisc", "show", "dev", interface], None)
    found = [q for q in json.loads(done.stdout or "[]") if q.get("kind") == "netem"] if done.code == 0 else []
    return int(found[0].get("packets", 0)) if found else None


def undelay(inside: Inside, interface: str) -> str:
    """Take the delay away and read that back; "" or what is left. Idempotent."""
    inside(["tc", "qdisc", "del", "dev", interface, "root"], None)
    return f"{interface} still delays" if delayed(inside, interface) is not None else ""


def namespace(nodes: Nodes, node: str, path: str) -> Inside:
    """Commands in the network namespace that the file ``path`` on ``node`` names."""
    def inside(words: list[str], text: str | None) -> Completed:
        return nodes.inside(node, "nsenter", f"--net={path}", *words, input=text, check=False)

    return inside


def _there(nodes: Nodes, entry: Mapping[str, Any]) -> bool:
    """Whether the namespace still exists: it goes with its pod, and what was broken in it goes along."""
    said = nodes.inside(str(entry["node"]), "sh", "-c", 'if [ -e "$1" ]; then echo there; else echo gone; fi', "sh", str(entry["netns"])).stdout.strip()
    if said not in ("there", "gone"):
        raise CommandFailed(f"does not say whether {entry['netns']} exists", where=str(entry["node"]))
    return said == "there"


def _undo_rules(nodes: Nodes, entry: Mapping[str, Any]) -> str:
    inside = namespace(nodes, str(entry["node"]), str(entry["netns"]))
    return remove(inside, str(entry["table"])) if _there(nodes, entry) else ""


def _undo_delay(nodes: Nodes, entry: Mapping[str, Any]) -> str:
    inside = namespace(nodes, str(entry["node"]), str(entry["netns"]))
    return undelay(inside, str(entry["interface"])) if _there(nodes, entry) else ""


#: What the undo log's entries of this module say, and who carries them out.
UNDO: Mapping[str, Callable[[Nodes, Mapping[str, Any]], str]] = {"network": _undo_rules, "delay": _undo_delay}
