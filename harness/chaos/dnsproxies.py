"""The DNS proxies of the stack: their rules and counters, by a command in their pods (``harness.dns.faultserver``)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import MailgaleError
from harness.kube.gateway import Gateway

_CONTAINER = "dns-proxy"
_COMMAND = ("python3", "-m", "harness.dns.faultserver")
_EXEC_S = 15.0


@dataclass(frozen=True)
class DnsProxies:
    """The proxies in one namespace; every change passes the gateway."""

    gateway: Gateway
    namespace: str

    def put(self, pod: str, rules: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Put ``rules`` in the place of those that the proxy holds; its counters then.

        :raises MailgaleError: refused, or it holds others all the same.
        """
        found = self._ask(pod, "rules", json.dumps(list(rules)))
        if [r["fault"] for r in found["rules"]] != [r["fault"] for r in rules]:
            raise MailgaleError(f"holds other rules than it was given: {found['rules']}", where=pod)
        return found

    def counters(self, pod: str) -> dict[str, Any]:
        """What the proxy has counted. Raises as :meth:`put`."""
        return self._ask(pod, "counters")

    def _ask(self, pod: str, *words: str) -> dict[str, Any]:
        done = self.gateway.exec(self.namespace, pod, _CONTAINER, [*_COMMAND, *words], timeout_s=_EXEC_S)
        try:
            found = json.loads(done.stdout)
        except ValueError:
            found = {"error": (done.stdout + done.stderr)[-200:].decode(errors="replace")}
        if done.code != 0 or "error" in found:
            raise MailgaleError(f"the DNS proxy refused: {found.get('error', done.code)}", where=pod)
        return dict(found)
