"""What must be undone, mirrored into the cluster before the act, for the janitor (deploy/components/janitor; contract in DESIGN.md).

The undo log on the host stays the only owner of undo. The mirror is what is left when the host is gone: keys ``entry-<id>`` of the
ConfigMap ``mailgale-undo`` in the arm's namespace, each ``{"entry": {...}}``, and ``holder``: who must hold the run's lease. The janitor adds
``state`` to an entry that it has ended.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from harness.errors import GuardRefused, MailgaleError
from harness.kube.client import Cluster
from harness.kube.gateway import Gateway

NAME = "mailgale-undo"


class Mirror:
    """The mirror of one arm's undo log.

    :param holder: the identity of the run's lease.
    :raises GuardRefused: it cannot be begun, so nothing may be done.
    """

    def __init__(self, gateway: Gateway, namespace: str, holder: str) -> None:
        self._gateway, self._namespace = gateway, namespace
        try:
            self._patch({"holder": holder})
        except MailgaleError as error:
            raise GuardRefused(f"what must be undone cannot be mirrored for the janitor: {error}", where=namespace) from error

    def armed(self, number: int, entry: Mapping[str, Any]) -> None:
        """Before the act.

        :raises MailgaleError: it is not in the cluster, so nothing may be done.
        """
        self._patch({_key(number): json.dumps({"entry": dict(entry)})})

    def undone(self, number: int) -> None:
        """The host has undone it; what the janitor has marked stays, as its record. Never raises: the entry is only tried again."""
        with suppress(MailgaleError):
            if number not in ended(self._gateway.cluster, self._namespace):
                self._patch({_key(number): None})

    def _patch(self, data: Mapping[str, str | None]) -> None:
        self._gateway.patch("v1", "ConfigMap", NAME, self._namespace, {"data": dict(data)})


def ended(cluster: Cluster, namespace: str) -> dict[int, str]:
    """Entry → how the janitor marked it. {} where there is no mirror, or none that can be read."""
    found: dict[int, str] = {}
    with suppress(MailgaleError, ValueError, KeyError, TypeError, AttributeError):
        record = cluster.find("v1", "ConfigMap", NAME, namespace) or {}
        for key, text in (record.get("data") or {}).items():
            if key.startswith("entry-") and (state := json.loads(text).get("state")):
                found[int(key.removeprefix("entry-"))] = str(state)
    return found


def _key(number: int) -> str:
    return f"entry-{number:06d}"
