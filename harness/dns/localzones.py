"""Names that unbound answers by itself: asked for below one of these, nothing behind unbound is measured.

Its default local zones, unbound.conf(5) "local-zone", ``services/localzone.c`` up to 1.26 (``resolver.arpa`` and ``service.arpa`` are
newer than Debian 12's 1.17). CoreDNS and resolvers of the pods forward these names, so a run on them looks well and counts nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import dns.name

from harness.errors import UsageError

_IP6 = (
    "0." * 32, "1." + "0." * 31, "d.f.", "8.e.f.", "9.e.f.", "a.e.f.", "b.e.f.", "8.b.d.0.1.0.0.2.",
)
_IP4 = (
    "127", "10", "0", "168.192", "254.169", "2.0.192", "100.51.198", "113.0.203", "255.255.255.255",
    *(f"{n}.172" for n in range(16, 32)), *(f"{n}.100" for n in range(64, 128)),
)
#: Newer than unbound 1.17; an older one asks upstream for them.
NEWER = frozenset({"resolver.arpa.", "service.arpa."})
ZONES = frozenset({
    "localhost.", "test.", "invalid.", "onion.", "home.arpa.", *NEWER, *(f"{z}.in-addr.arpa." for z in _IP4), *(f"{z}ip6.arpa." for z in _IP6),
})


def local_zone(name: str, *, nodefault: Collection[str] = ()) -> str | None:
    """The zone through which unbound answers ``name`` by itself, or None.

    :param nodefault: zones that the resolver's configuration gives back (``local-zone: "X" nodefault``).
    """
    asked = dns.name.from_text(name)
    return next((z for z in sorted(ZONES - set(nodefault)) if asked.is_subdomain(dns.name.from_text(z))), None)


def refuse_local_zones(names: Iterable[str], *, nodefault: Collection[str] = ()) -> None:
    """Refuse names that would never leave unbound.

    :raises UsageError: names the first such name and its zone.
    """
    for name in names:
        zone = local_zone(name, nodefault=nodefault)
        if zone is not None:
            raise UsageError(f"unbound answers this by itself (its default local zone '{zone}'), so nothing behind it would be asked", where=name,
                             todo="take a name of another zone, or 'local-zone: ... nodefault' in unbound.conf")
