"""``mailgale dns``: what one name costs in queries."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from rich.table import Table
from rich.tree import Tree

from harness.cli.target import TargetOptions, target_for, target_options
from harness.cli.terminal import console, make_progress
from harness.cluster.engine import ensure_engine
from harness.dns.count import Counted, Place, cases, count, local_place, scratch_directory, wire_name
from harness.dns.libcs import FAMILIES, LIBCS, Program, program
from harness.dns.localzones import refuse_local_zones
from harness.dns.pod import pod_place
from harness.dns.remote import remote_place
from harness.errors import NotReady, NotSupported, UsageError
from harness.kube.client import Cluster
from harness.model.dnstree import Attempt, Kind, QueryTree
from harness.model.target import Target
from harness.stack import lifecycle
from harness.support.checkout import Checkout

_NDOTS_MAX = 15
_POD_COMPONENT = "mx"
_INCONCLUSIVE = 5


def _words(allowed: Sequence[str]) -> Callable[[click.Context, click.Parameter, str], tuple[str, ...]]:
    """For words separated by commas, each one of ``allowed``."""

    def read(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:
        words = tuple(dict.fromkeys(w.strip() for w in value.split(",")))
        wrong = [w for w in words if w not in allowed]
        if wrong:
            raise click.BadParameter(f"'{wrong[0]}' is none of {', '.join(allowed)}", ctx, param)
        return words

    return read


@dataclass(frozen=True)
class _Where:
    """What the options say about the place."""

    local: bool
    pod: str | None
    missing: tuple[str, ...]
    target: TargetOptions


@click.group()
def dns() -> None:
    """The DNS laboratory.

    \b
    Example:
      mailgale dns count omgi.iij.ad.jp --local
    """


@dns.command("count")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--local", is_flag=True, help="a private network of this machine instead of a cluster: the talk's search domains, a responder of our own")
@click.option("--pod", default=None, metavar="[NAMESPACE/]POD", help="the pod in whose network and with whose resolv.conf to ask  [default: the first mx pod]")
@click.option("--ndots", default="1,5", show_default=True, callback=_words([str(n) for n in range(_NDOTS_MAX + 1)]))
@click.option("--libc", "libcs", default="glibc,musl", show_default=True, callback=_words(LIBCS))
@click.option("--family", "families", default="any,ipv4", show_default=True, callback=_words(FAMILIES), help="any asks A and AAAA")
@click.option("--missing", multiple=True, metavar="NAME", help="with --local: a NAME that does not exist")
@click.option("--pcap", type=click.Path(path_type=Path, file_okay=False), default=None, help="keep the captures in this directory")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@target_options
def count_command(
    names: tuple[str, ...], local: bool, pod: str | None, ndots: tuple[str, ...], libcs: tuple[str, ...], families: tuple[str, ...],
    missing: tuple[str, ...], pcap: Path | None, output: str, **target_args: str | None,
) -> int:
    """Count the queries that one getaddrinfo of each NAME costs, captured on the wire, with a picture of the query tree.

    End a NAME in a dot to keep the search domains out. The look-ups use this machine's C libraries: glibc through Python, musl
    through a small program built with musl-gcc. In a pod, what its own programs ask about the same NAME meanwhile is counted as well:
    take a NAME that nobody else asks for. On a cluster whose nodes are not on this machine a pod of the stack's own image, made for this
    on the same node and removed again, asks with that pod's resolv.conf. Exit 5 when a count is not exact or nothing could be counted.

    \b
    Examples:
      mailgale dns count omgi.iij.ad.jp --local
      mailgale dns count omgi.iij.ad.jp omgi.iij.ad.jp. gone.iij.ad.jp --missing gone.iij.ad.jp --local --ndots 5
      mailgale dns count example.net --pod mx-0 --libc glibc -o json
      mailgale dns count example.net --target context --context staging
    """
    checkout = Checkout.find()
    programs, unsupported = _programs(libcs, checkout)
    names, missing = (tuple(dict.fromkeys(wire_name(n) for n in given)) for given in (names, missing))
    wanted = cases(names, [p.libc for p in programs], [int(n) for n in ndots], families)
    with _place(checkout, names, _Where(local, pod, missing, TargetOptions(**target_args))) as place, _evidence(pcap) as directory:
        programs = [place.bring(p) if place.bring else p for p in programs]
        by_libc = {p.libc: p for p in programs}
        counted = [count(place, by_libc[c.libc], c, directory / f"{i:03d}-{c.libc}-ndots{c.ndots}-{c.family}") for i, c in enumerate(wanted, 1)]
    if output == "json":
        click.echo(json.dumps(_document(place, programs, counted, unsupported), indent=2))
    else:
        _show(place, programs, counted, unsupported)
    return 0 if counted and not any(c.flaws for c in counted) else _INCONCLUSIVE


def _programs(libcs: Sequence[str], checkout: Checkout) -> tuple[list[Program], dict[str, str]]:
    """A program for each C library, and why there is none for others."""
    found, unsupported = [], {}
    for libc in libcs:
        try:
            found.append(program(libc, checkout))
        except NotSupported as error:
            unsupported[libc] = str(error)
    return found, unsupported


@contextmanager
def _place(checkout: Checkout, names: Sequence[str], where: _Where) -> Iterator[Place]:
    if where.local and where.pod is not None:
        raise UsageError("--local and --pod exclude each other")
    if where.missing and not where.local:
        raise UsageError("--missing goes with --local", todo="on a cluster, name something that does not exist there")
    strangers = {n.rstrip(".") for n in where.missing} - {n.rstrip(".") for n in names}
    if strangers:
        raise UsageError(f"--missing {sorted(strangers)[0]}: no such NAME is asked for")
    try:
        if where.local:
            with checkout.lock("dns"), local_place(checkout, names, where.missing) as place:
                yield place
        else:
            refuse_local_zones(names)
            with _pod(checkout, where) as place:
                yield place
    except NotSupported as error:
        raise NotReady(f"not supported here: {error}", todo="mailgale dns count NAME --local") from error


@contextmanager
def _pod(checkout: Checkout, where: _Where) -> Iterator[Place]:
    progress = make_progress()
    target = target_for(checkout, progress, where.target, start=False)
    cluster = Cluster(target)
    namespace, name = _found(cluster, target, checkout, where)
    if target.ours:
        yield pod_place(cluster, ensure_engine(checkout, progress), namespace, name)
        return
    stack = lifecycle.find(target, checkout, namespace.removeprefix(checkout.namespace("")))
    pod = cluster.pod(namespace, name)
    if stack is None or pod is None:
        raise NotReady("the pod is in no stack of this checkout, and beside another's none is made", where=f"{namespace}/{name}", todo="mailgale stack up")
    with remote_place(stack, pod, checkout, progress) as place:
        yield place


def _found(cluster: Cluster, target: Target, checkout: Checkout, where: _Where) -> tuple[str, str]:
    """Namespace and name of the pod that is meant."""
    namespace, _, pod = (where.pod or "").rpartition("/")
    spaces = [namespace] if namespace else lifecycle.deployed(target, checkout)
    if not pod:
        found = [(s, p.name) for s in spaces for p in cluster.pods(s, component=_POD_COMPONENT) if p.ready]
    else:
        found = [(s, pod) for s in spaces if cluster.pod(s, pod) is not None]
    if not found:
        raise NotReady(f"no {'pod ' + pod if pod else 'ready ' + _POD_COMPONENT + ' pod'}", where=", ".join(spaces) or "no stack", todo="mailgale stack status")
    return found[0]


@contextmanager
def _evidence(pcap: Path | None) -> Iterator[Path]:
    if pcap is not None:
        pcap.mkdir(parents=True, exist_ok=True)
        yield pcap
    else:
        with scratch_directory() as directory:
            yield directory


def _document(place: Place, programs: Sequence[Program], counted: Sequence[Counted], unsupported: dict[str, str]) -> dict[str, Any]:
    return {
        "place": place.what, "search": list(place.config.search), "nameservers": list(place.config.nameservers),
        "libcs": {p.libc: p.version for p in programs}, "not_supported_here": unsupported,
        "look_ups": [
            {
                **asdict(c.case), "queries": c.tree.queries, "distinct": c.tree.distinct, "retries": c.tree.count(Kind.RETRY),
                "unanswered": c.tree.unanswered, "other_queries": c.tree.others, "talk": c.talk, "found": list(c.found), "said": c.said,
                "exact": not c.flaws, "flaws": list(c.flaws), "packets": c.quality.packets, "drops": c.quality.drops, "tree": asdict(c.tree)["names"],
            }
            for c in counted
        ],
    }


def _show(place: Place, programs: Sequence[Program], counted: Sequence[Counted], unsupported: dict[str, str]) -> None:
    out = console(stderr=False)
    out.print(f"{place.what}; search {' '.join(place.config.search) or '(none)'}", markup=False)
    out.print(", ".join(f"{p.libc} {p.version}" for p in programs), markup=False)
    for libc, why in unsupported.items():
        out.print(f"not supported here: {libc}: {why}", markup=False, style="yellow")
    table = Table("name", "libc", "ndots", "family", "queries", "talk (T30)", "retries", "answer", box=None, header_style="bold")
    for c in counted:
        exact = "" if not c.flaws else " INCONCLUSIVE: " + "; ".join(c.flaws)
        table.add_row(
            c.case.name, c.case.libc, str(c.case.ndots), c.case.family, f"{c.tree.queries}{exact}", _beside(c),
            str(c.tree.count(Kind.RETRY)), " ".join(c.found) or c.said,
        )
    out.print(table)
    for titles, tree in _distinct([c for c in counted if c.case.family == counted[0].case.family]):
        out.print(_picture(titles, tree))


def _beside(counted: Counted) -> str:
    """The talk's number, and whether it is what was seen."""
    if counted.talk is None or counted.flaws:
        return ""
    return f"{counted.talk} {'[green]as seen[/]' if counted.talk == counted.tree.queries else '[red]differs[/]'}"


def _distinct(counted: Sequence[Counted]) -> list[tuple[list[str], QueryTree]]:
    """One tree for all look-ups that asked the same with the same answers, with what they are called."""
    grouped: dict[object, tuple[list[str], QueryTree]] = {}
    for c in counted:
        shape = (c.case.name, tuple((n.name, t.qtype, tuple((a.kind, a.query.transport, a.outcome) for a in t.attempts)) for n in c.tree.names for t in n.types))
        titles, _ = grouped.setdefault(shape, ([], c.tree))
        titles.append(f"{c.case.libc} ndots:{c.case.ndots} {c.case.family}")
    return list(grouped.values())


def _picture(titles: Sequence[str], tree: QueryTree) -> Tree:
    root = Tree(f"[bold]{_plain(tree.name)}[/]: {tree.queries} {'query' if tree.queries == 1 else 'queries'}  [dim]{', '.join(titles)}[/]")
    for name in tree.names:
        branch = root.add(_plain(name.name))
        for asked in name.types:
            for used in asked.transports:
                branch.add(f"{asked.qtype} {used.transport}  {'  '.join(_attempt(a) for a in used.attempts)}")
    return root


def _attempt(attempt: Attempt) -> str:
    colour = {"NOERROR": "green", "NXDOMAIN": "yellow", "NODATA": "yellow"}.get(attempt.outcome, "red")
    took = f" [dim]{(attempt.answer.t_ns - attempt.query.t_ns) / 1e6:.1f} ms[/]" if attempt.answer else ""
    why = "" if attempt.kind is Kind.FIRST else f"{attempt.kind}: "
    return f"{why}[{colour}]{attempt.outcome}[/]{took}"


def _plain(text: str) -> str:
    return text.replace("[", r"\[")
