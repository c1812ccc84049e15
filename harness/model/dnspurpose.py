"""What a name on the wire is about, without the search domain that a resolver appended and without what is different for each mail. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

REVERSE, PROBE = "address to name", "health probe"
_NUMBERS = re.compile(r"\d+")


@dataclass(frozen=True)
class Purpose:
    """``what`` a query is about; ``expanded``: a search domain was appended to the name that was meant."""

    what: str
    expanded: bool = False


@dataclass(frozen=True)
class Names:
    """How names of one stack are told apart.

    :param namespace: of the stack; its Services are ``NAME.namespace.svc.cluster_domain``.
    :param search: the pods' search domains.
    """

    namespace: str
    cluster_domain: str
    search: Sequence[str]

    def purpose(self, qname: str, qtype: str) -> Purpose:
        """What ``qname`` is about: ``service NAME``, ``address to name``, ``health probe``, or the name with ``N`` for every number.

        Limit: of a name that itself lies in a search domain, only what is left above it with two labels or more counts as expanded.
        """
        name = qname.lower().rstrip(".")
        if not name:
            return Purpose(PROBE if qtype == "NS" else ".")
        head, inside, rest = name.partition(f".{self.namespace}.svc.{self.cluster_domain}")
        if inside:
            return Purpose(f"service {_NUMBERS.sub('N', head)}", bool(rest))
        if ".in-addr.arpa" in name or ".ip6.arpa" in name:
            return Purpose(REVERSE, not name.endswith(".arpa"))
        base = self._stripped(name)
        return Purpose(_NUMBERS.sub("N", base), base != name)

    def _stripped(self, name: str) -> str:
        for domain in sorted(self.search, key=len, reverse=True):
            head, inside, rest = name.rpartition(f".{domain.rstrip('.').lower()}")
            if inside and not rest and "." in head:
                return head
        return name
