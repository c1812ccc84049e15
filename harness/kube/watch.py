"""List and watch, so that nothing polls: every change of a kind of object in one namespace, from the beginning on."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

import urllib3

from harness.kube.api import ApiFailed, Gone
from harness.kube.client import Cluster

_SERVER_ENDS_AFTER_S = 240


@dataclass(frozen=True)
class Change:
    """One change. ``type`` is ``ADDED``, ``MODIFIED`` or ``DELETED``; ``object`` the API's JSON."""

    type: str
    object: dict[str, Any]


class Watch:
    """Iterates over the changes at ``path``; begins with ADDED for what is there.

    After a break it lists again: what changed meanwhile comes as MODIFIED, what went away as DELETED (with the last
    object seen). Known limit: what came and went within a break is never seen.

    :param path: of a list, e.g. ``/api/v1/namespaces/x/pods``.
    :param on_break: told of every break; :meth:`stop` may be called from it.
    :param retry_s: pause before listing again after a break.
    """

    def __init__(
        self, cluster: Cluster, path: str, *, label_selector: str = "", on_break: Callable[[ApiFailed], None] | None = None, retry_s: float = 1.0
    ) -> None:
        self._cluster, self._path, self._selector, self._retry_s = cluster, path, label_selector, retry_s
        self._on_break = on_break or (lambda error: None)
        self._stopped = threading.Event()
        self._response: Any = None
        self._known: dict[str, dict[str, Any]] = {}

    def stop(self) -> None:
        """End the iteration, from any thread; a blocked read is woken."""
        self._stopped.set()
        response = self._response
        if response is not None:
            _shut(response)

    def __iter__(self) -> Iterator[Change]:
        while not self._stopped.is_set():
            try:
                version = yield from self._list()
                yield from self._stream(version)
            except Gone:
                self._stopped.wait(self._retry_s / 10)
            except ApiFailed as error:
                if not self._stopped.is_set():
                    self._on_break(error)
                    self._stopped.wait(self._retry_s)

    def _list(self) -> Generator[Change, None, str]:
        items, version = self._cluster.items(self._path, label_selector=self._selector)
        now = {str(i["metadata"]["uid"]): i for i in items}
        for uid in [u for u in self._known if u not in now]:
            yield Change("DELETED", self._known.pop(uid))
        for uid, item in now.items():
            before = self._known.get(uid)
            self._known[uid] = item
            if before is None:
                yield Change("ADDED", item)
            elif before["metadata"].get("resourceVersion") != item["metadata"].get("resourceVersion"):
                yield Change("MODIFIED", item)
        return version

    def _stream(self, version: str) -> Iterator[Change]:
        while not self._stopped.is_set():
            query = {"watch": "true", "resourceVersion": version, "allowWatchBookmarks": "true", "timeoutSeconds": str(_SERVER_ENDS_AFTER_S)}
            if self._selector:
                query["labelSelector"] = self._selector
            response = self._cluster.api.raw("GET", self._path, query=query, timeout_s=_SERVER_ENDS_AFTER_S + 30)
            self._response = response
            try:
                if self._stopped.is_set():
                    return  # stopped while the request was on its way: there was no response yet to be shut
                for event in _events(response, self._path):
                    version = event["object"]["metadata"].get("resourceVersion", version)
                    if event["type"] != "BOOKMARK":
                        yield self._remember(event)
                    if self._stopped.is_set():
                        return
            finally:
                self._response = None
                response.close()

    def _remember(self, event: dict[str, Any]) -> Change:
        uid = str(event["object"]["metadata"]["uid"])
        if event["type"] == "DELETED":
            self._known.pop(uid, None)
        else:
            self._known[uid] = event["object"]
        return Change(event["type"], event["object"])


def _events(response: Any, where: str) -> Iterator[dict[str, Any]]:
    try:
        for line in _lines(response):
            event = json.loads(line)
            if event["type"] == "ERROR":
                raise _error(event["object"], where)
            yield event
    except (urllib3.exceptions.HTTPError, OSError, ValueError, AttributeError) as error:
        # AttributeError: a response that another thread has shut down while it was read.
        raise ApiFailed(f"the watch broke off: {type(error).__name__}", status=0, where=where) from error


def _lines(response: Any) -> Iterator[bytes]:
    rest = b""
    while data := response.read1(65536):
        *whole, rest = (rest + data).split(b"\n")
        yield from (line for line in whole if line)


def _error(status: dict[str, Any], where: str) -> ApiFailed:
    code = int(status.get("code", 0))
    kind = Gone if code == 410 else ApiFailed
    return kind(f"the watch ended: {status.get('message', '')}", status=code, where=where)


def _shut(response: Any) -> None:
    try:
        response.shutdown()
    except (ValueError, OSError, AttributeError):
        # Not connected any more, or the body is complete: there is no read to wake.
        return
