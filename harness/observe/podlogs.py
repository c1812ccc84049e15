"""The log of every container of every pod, from its creation, into ``logs/<pod>.<container>.log``.

One follower a container instance; instances of one name (restarts, a StatefulSet's next pod) share a file, each with a head
line of ours. A stream that breaks is taken up again where it stopped, by skipping as many bytes as are here already. Known limit:
a kubelet that rotated the log in between has fewer to give, and what it rotated away is lost; ``incident`` says so.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import BinaryIO

import urllib3

from harness.kube.api import ApiFailed, NotFound
from harness.kube.client import Cluster
from harness.kube.objects import Container, Pod
from harness.observe.sink import Sink

_CHUNK = 65536
_TRIES = 5
_RETRY_S = 1.0


class LogCollector:
    """Starts a follower for each container instance it is told of.

    :param bytes_max: of one file; what comes after it is left out, and said so.
    """

    def __init__(self, sink: Sink, cluster: Cluster, namespace: str, folder: Path, bytes_max: int) -> None:
        self._sink, self._cluster, self._namespace, self._folder, self._bytes_max = sink, cluster, namespace, folder, bytes_max
        self._followers: dict[str, _Follower] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def on_pod(self, pod: Pod) -> None:
        """Follow what is not followed yet: this instance of each container, and the last one if it came and went unseen."""
        for container in pod.containers:
            last = _last_id(pod, container)
            if last and last not in self._followers:
                self._follow(pod, container, last, previous=True)
            if container.id and container.state in ("running", "terminated") and container.id not in self._followers:
                self._follow(pod, container, container.id, previous=False)

    def stop(self, timeout_s: float = 3.0) -> None:
        """End every follower; ``timeout_s`` is for all of them together."""
        for one in self._followers.values():
            one.stop()
        end = time.monotonic() + timeout_s
        for one in self._followers.values():
            one.join(max(0.0, end - time.monotonic()))

    def _follow(self, pod: Pod, container: Container, instance: str, *, previous: bool) -> None:
        path = self._folder / f"{pod.name}.{container.name}.log"
        made = _Follower(self._sink, self._cluster, self._namespace, pod, container.name, instance, path, self._bytes_max, previous)
        self._followers[instance] = made
        made.start()


class _Follower(threading.Thread):
    """One instance of one container."""

    def __init__(
        self, sink: Sink, cluster: Cluster, namespace: str, pod: Pod, container: str, instance: str, path: Path, bytes_max: int, previous: bool
    ) -> None:
        super().__init__(name=f"log {pod.name}.{container}", daemon=True)
        self._sink, self._cluster, self._namespace = sink, cluster, namespace
        self._pod, self._container, self._instance = pod, container, instance
        self._path, self._bytes_max, self._previous = path, bytes_max, previous
        self._stopped = threading.Event()
        self._response: urllib3.BaseHTTPResponse | None = None
        self._received = 0

    def run(self) -> None:
        try:
            self._follow()
        except OSError as error:
            self._incident(f"the log could not be written: {error.strerror}")

    def _follow(self) -> None:
        with self._path.open("ab", buffering=0) as file:
            file.write(f"--- mailgale: container {self._instance[:12]} of pod {self._pod.uid}\n".encode())
            for _ in range(_TRIES):
                if self._stopped.is_set() or self._read_into(file):
                    return
                self._stopped.wait(_RETRY_S)
            self._incident("the log could not be followed to its end")

    def stop(self) -> None:
        """Wake it and let it end."""
        self._stopped.set()
        response = self._response
        if response is not None:
            try:
                response.shutdown()
            except (ValueError, OSError, AttributeError):
                return

    def _read_into(self, file: BinaryIO) -> bool:
        """Copy the stream; whether there is nothing more to come."""
        query = {"previous": "true"} if self._previous else {}
        try:
            with self._cluster.log_stream(self._namespace, self._pod.name, self._container, follow=not self._previous, **query) as response:
                self._response = response
                return self._copy(response, file)
        except NotFound:
            # The pod is gone, and with it its log.
            return True
        except (ApiFailed, urllib3.exceptions.HTTPError, OSError, ValueError, AttributeError) as error:
            if self._stopped.is_set():
                return True
            self._sink.missed(f"log {self._path.name}", f"{type(error).__name__}: {error}")
            return False
        finally:
            self._response = None

    def _copy(self, response: urllib3.BaseHTTPResponse, file: BinaryIO) -> bool:
        skip = self._received
        while data := response.read1(_CHUNK):
            fresh, skip = data[skip:], max(0, skip - len(data))
            self._received += len(fresh)
            if file.tell() + len(fresh) > self._bytes_max:
                file.write(b"\n--- mailgale: the log is bounded, the rest is left out\n")
                self._incident(f"log bounded at {self._bytes_max} bytes")
                return True
            file.write(fresh)
        if skip:
            self._incident("the log was rotated while its stream was broken; lines may be missing")
        return True

    def _incident(self, what: str) -> None:
        self._sink.event("incident", what=what, where=f"{self._pod.name}.{self._container}")


def _last_id(pod: Pod, container: Container) -> str:
    """Runtime id of the container's instance before this one, "" when there was none."""
    for key in ("initContainerStatuses", "containerStatuses"):
        for status in pod.raw.get("status", {}).get(key) or []:
            if status["name"] == container.name:
                ended = (status.get("lastState") or {}).get("terminated") or {}
                return str(ended.get("containerID", "")).rpartition("//")[2]
    return ""
