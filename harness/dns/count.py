"""Queries per look-up: one getaddrinfo in a network namespace, everything on the wire captured, the query tree made of it."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import dns.exception
import dns.name

from harness.dns.capture import capturing
from harness.dns.decode import Decoded, decode
from harness.dns.libcs import Program
from harness.dns.netns import lab, run_inside, run_with_its_files
from harness.dns.responder import Responder
from harness.dns.serve import serving
from harness.errors import CommandFailed, UsageError
from harness.model.dns import CaptureQuality
from harness.model.dnstree import QueryTree, query_tree
from harness.support.checkout import Checkout
from harness.support.shell import Completed

#: The talk's resolv.conf (T30).
TALK_SEARCH = ("default.svc.cluster.local", "svc.cluster.local", "cluster.local", "test.example.com", "example.com")
#: ndots → queries, by the talk (T30): A and AAAA of a name of four labels that exists, with its five search domains.
TALK_QUERIES = {5: 12, 1: 2}
_TALK_DOTS = 3
#: Longer than glibc and musl take to give up on five search domains (5 s × 2 attempts each).
LOOKUP_S = 150.0
_HOST = re.compile(r"([A-Za-z0-9_-]+\.)+")
_OPTION = re.compile(r"\bndots:\d+")
_FILES = {"/etc/nsswitch.conf": "hosts: files dns\n", "/etc/hosts": "127.0.0.1 localhost\n::1 localhost\n"}
_RESOLV = "/etc/resolv.conf"
#: Variables of the caller's that would change the resolver (resolv.conf(5), gethostbyname(3)).
UNSET = ("RES_OPTIONS", "LOCALDOMAIN", "HOSTALIASES")
#: What became of a look-up's command, and what was captured meanwhile.
Seen: TypeAlias = "tuple[Completed, Decoded]"
_LAB_DATA = {"A": ["198.51.100.10"], "AAAA": ["2001:db8::10"]}


@dataclass(frozen=True)
class ResolverConfig:
    """What a resolv.conf(5) says, as far as it matters here."""

    nameservers: tuple[str, ...]
    search: tuple[str, ...]
    options: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> ResolverConfig:
        """Read a resolv.conf: the last ``search`` or ``domain`` counts, as in resolv.conf(5)."""
        servers: list[str] = []
        search: tuple[str, ...] = ()
        options: list[str] = []
        for words in (line.split("#")[0].split() for line in text.splitlines()):
            if words[:1] == ["nameserver"]:
                servers += words[1:2]
            elif words and words[0] in ("search", "domain"):
                search = tuple(words[1:])
            elif words[:1] == ["options"]:
                options += words[1:]
        return cls(tuple(servers), search, tuple(options))

    def text(self, ndots: int) -> str:
        """The file with ``ndots`` as given and everything else as it is."""
        others = [o for o in self.options if not _OPTION.fullmatch(o)]
        lines = [f"search {' '.join(self.search)}"] if self.search else []
        return "\n".join([*lines, *(f"nameserver {s}" for s in self.nameservers), f"options {' '.join([f'ndots:{ndots}', *others])}", ""])


@dataclass(frozen=True)
class Place:
    """Where look-ups are made: a network namespace and the resolver configuration that holds in it.

    :param mounts: mount namespace of the pod whose network it is, for programs of its image; None where there is none.
    :param ask: makes a look-up in a place that cannot be entered from here (:mod:`harness.dns.remote`): program, case, files (path → text), directory for
        its capture. :param bring: a program of this machine's as that place has it. None: the place is entered by ``namespace``.
    """

    namespace: Path
    config: ResolverConfig
    what: str
    interface: str = ""
    mounts: Path | None = None
    ask: Callable[[Program, Case, Mapping[str, str], Path], Seen] | None = None
    bring: Callable[[Program], Program] | None = None


@dataclass(frozen=True)
class Case:
    """One look-up. ``family``: ``any`` (A and AAAA), ``ipv4``, ``ipv6``."""

    name: str
    libc: str
    ndots: int
    family: str


@dataclass(frozen=True)
class Counted:
    """One look-up as it was seen.

    :param found: the addresses; () when there are none, and ``said`` is the resolver's reason.
    """

    case: Case
    tree: QueryTree
    quality: CaptureQuality
    found: tuple[str, ...]
    said: str
    search: tuple[str, ...] = field(default=())

    @property
    def flaws(self) -> tuple[str, ...]:
        """Why the number is none; () = it is exact."""
        silent = () if self.tree.queries else ("no query was seen: the name came from elsewhere (hosts, nscd, another namespace)",)
        return (*self.quality.flaws, *silent)

    @property
    def talk(self) -> int | None:
        """What the talk says of such a look-up (T30), None where it says nothing."""
        like_talk = self.case.name.count(".") == _TALK_DOTS and not self.case.name.endswith(".") and len(self.search) == len(TALK_SEARCH)
        return TALK_QUERIES.get(self.case.ndots) if like_talk and self.case.family == "any" and self.found else None


def count(place: Place, program: Program, case: Case, scratch: Path) -> Counted:
    """Make one look-up in ``place`` and count it.

    :param scratch: a directory for the files of this look-up; ``lookup.pcap`` in it is the evidence.
    :raises NotReady: the namespace cannot be entered or captured in.
    :raises CommandFailed: the look-up does not end.
    :raises NotSupported: a program of the pod's own, and the place is no pod.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    files = {**_FILES, _RESOLV: place.config.text(case.ndots)}
    done, seen = place.ask(program, case, files, scratch) if place.ask else _here(place, program, case, files, scratch)
    lines = tuple(done.stdout.split("\n"))
    if done.code not in (0, 2):
        raise CommandFailed(f"the look-up ended with {done.code}: {done.stderr.strip()[-300:]}", where=f"{case.libc} {case.name}")
    found = tuple(line for line in lines if line) if done.code == 0 else ()
    return Counted(case, query_tree(seen.records, case.name), seen.quality, found, "" if found else lines[0], place.config.search)


def _here(place: Place, program: Program, case: Case, files: Mapping[str, str], scratch: Path) -> Seen:
    """A look-up in a namespace of this machine."""
    bound = {path: scratch / Path(path).name for path in files}
    for path, text in files.items():
        bound[path].write_text(text)
    argv = ["env", *(f"--unset={name}" for name in UNSET), *program.command(case.family, case.name)]
    with capturing(place.namespace, scratch / "lookup.pcap", interface=place.interface) as capture:
        if program.of_the_pod:
            done = run_with_its_files(place.namespace, place.mounts, argv, timeout_s=LOOKUP_S)
        else:
            done = run_inside(place.namespace, argv, timeout_s=LOOKUP_S, files=bound)
    return done, decode(capture)


def cases(names: Sequence[str], libcs: Sequence[str], ndots: Sequence[int], families: Sequence[str]) -> list[Case]:
    """Every combination, names first."""
    return [Case(n, libc, dots, family) for n in names for libc in libcs for dots in ndots for family in families]


def wire_name(name: str) -> str:
    """A host name as it goes to the wire (IDNA), with or without its trailing dot as given.

    :raises UsageError: this is no host name.
    """
    try:
        text = dns.name.from_text(name).to_text()
    except (dns.exception.DNSException, UnicodeError) as error:
        raise UsageError(f"this is no DNS name: {error or type(error).__name__}", where=name) from error
    if not _HOST.fullmatch(text):
        raise UsageError("this is no host name (letters, digits, hyphens, underscores and dots)", where=name)
    return text if name.endswith(".") else text[:-1]


@contextmanager
def local_place(checkout: Checkout, names: Sequence[str], missing: Collection[str] = (), *, suffix: str = "dns") -> Iterator[Place]:
    """A private network with a responder of ours, in which ``names`` exist but for ``missing``, and the talk's search domains are empty.

    :param suffix: of the network's name; hold the lock ``suffix`` of the checkout.
    :raises NotSupported: no root, or no network namespaces.
    """
    absent = {n.rstrip(".").lower() for n in missing}
    known: dict[str, Mapping[str, Sequence[str]]] = {f"{s}.": {} for s in TALK_SEARCH}
    known |= {f"{n.rstrip('.')}.": _LAB_DATA for n in names if n.rstrip(".").lower() not in absent}
    with lab(f"mailgale-{checkout.id}-{suffix}") as network:
        with serving(Responder(known), *network.listen()):
            config = ResolverConfig((network.server4,), TALK_SEARCH)
            yield Place(network.client, config, "private network with a responder of our own", network.interface)


@contextmanager
def scratch_directory() -> Iterator[Path]:
    """A directory for the captures of one command, removed with it."""
    with tempfile.TemporaryDirectory(prefix="mailgale-dns-") as made:
        yield Path(made)
