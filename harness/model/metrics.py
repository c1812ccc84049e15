"""Prometheus' text format, as far as CoreDNS's pages need it: names, labels, values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

_SERIES = re.compile(r"^coredns_(\w+?)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


def coredns_series(page: str) -> Iterator[tuple[str, Mapping[str, str], float]]:
    """Name without ``coredns_``, labels and value of every sample on a metrics page of CoreDNS; other lines are passed over.

    :raises ValueError: a value is no number.
    Source: CoreDNS plugin metrics (1.13.2); Prometheus exposition formats, text-based format 0.0.4. Label values hold no escaped quotes there.
    """
    for line in page.splitlines():
        if found := _SERIES.match(line):
            yield found[1], dict(_LABEL.findall(found[2] or "")), float(found[3])
