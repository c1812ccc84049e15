"""Reading from a cluster: typed and thin. Nothing here changes anything; that is ``harness.kube.gateway``."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import websocket
from kubernetes import client as k8s
from kubernetes import stream as k8s_stream

from harness.errors import NotReady
from harness.kube.api import Api, ApiFailed, NotFound, join
from harness.kube.objects import EndpointSlice, NodeState, Pod, node_of, pod_of, slice_of
from harness.model.target import Target

_STDIN, _STDOUT, _STDERR, _STATUS = 0, 1, 2, 3


@dataclass(frozen=True)
class Executed:
    """What a command in a container left. ``code`` is its exit status."""

    code: int
    stdout: bytes
    stderr: bytes


class Cluster:
    """The cluster of a target.

    :param target: which kubeconfig and context; its ``uid`` is what the guards compare with.
    :raises NotReady: the kubeconfig cannot be read.

    Every method raises ``kube.api.ApiFailed`` (``NotFound`` for a missing object) with the request in its message when the
    API server says no or does not answer. Threads may share one Cluster.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.api = Api(target.kubeconfig, target.context)
        self._plurals: dict[str, dict[str, tuple[str, bool]]] = {}

    # -- identity and generic reads

    def uid(self) -> str:
        """UID of the namespace ``kube-system``: the identity of a cluster."""
        return str(self.get("/api/v1/namespaces/kube-system")["metadata"]["uid"])

    def get(self, path: str, *, timeout_s: float = 15.0, **query: str) -> dict[str, Any]:
        """The JSON object at ``path``."""
        return self.api.call("GET", path, query=query, timeout_s=timeout_s)

    def items(self, path: str, *, label_selector: str = "", field_selector: str = "") -> tuple[list[dict[str, Any]], str]:
        """Items of the list at ``path`` and its resource version."""
        query = {"labelSelector": label_selector, "fieldSelector": field_selector}
        answer = self.api.call("GET", path, query={k: v for k, v in query.items() if v})
        return list(answer.get("items") or []), str(answer.get("metadata", {}).get("resourceVersion", ""))

    def path_of(self, api_version: str, kind: str, namespace: str = "", name: str = "") -> str:
        """The API path of a kind, looked up by discovery, e.g. ``apps/v1``, ``StatefulSet``.

        :raises NotFound: the cluster does not serve this kind.
        """
        plural, namespaced = self._plural(api_version, kind)
        scope = ("namespaces", namespace) if namespaced and namespace else ()
        return join("api" if "/" not in api_version else "apis", api_version, *scope, plural, name)

    def namespaced(self, api_version: str, kind: str) -> bool:
        """Whether objects of this kind live in a namespace."""
        return self._plural(api_version, kind)[1]

    def find(self, api_version: str, kind: str, name: str, namespace: str = "") -> dict[str, Any] | None:
        """One object, or None where there is none."""
        try:
            return self.get(self.path_of(api_version, kind, namespace, name))
        except NotFound:
            return None

    # -- typed reads

    def namespace(self, name: str) -> dict[str, Any] | None:
        """The namespace, or None."""
        return self.find("v1", "Namespace", name)

    def namespaces(self, label_selector: str = "") -> list[dict[str, Any]]:
        """Namespaces by label."""
        return self.items("/api/v1/namespaces", label_selector=label_selector)[0]

    def pods(self, namespace: str, label_selector: str = "", *, component: str = "") -> list[Pod]:
        """Pods of ``namespace`` ("" = of all), by label or component, by name."""
        labels = ",".join(s for s in (label_selector, component and f"app.kubernetes.io/component={component}") if s)
        items, _ = self.items(join("api/v1", namespace and f"namespaces/{namespace}", "pods"), label_selector=labels)
        return sorted((pod_of(i) for i in items), key=lambda p: p.name)

    def pod(self, namespace: str, name: str) -> Pod | None:
        """One pod, or None."""
        found = self.find("v1", "Pod", name, namespace)
        return pod_of(found) if found else None

    def nodes(self) -> list[NodeState]:
        """Every node, by name."""
        return sorted((node_of(i) for i in self.items("/api/v1/nodes")[0]), key=lambda n: n.name)

    def endpointslices(self, namespace: str, service: str = "") -> list[EndpointSlice]:
        """EndpointSlices of ``namespace``, of one Service or all."""
        labels = f"kubernetes.io/service-name={service}" if service else ""
        path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
        return [slice_of(i) for i in self.items(path, label_selector=labels)[0]]

    def events(self, namespace: str, *, about: str = "") -> list[dict[str, Any]]:
        """Events of ``namespace`` as JSON, oldest first; ``about`` = name of the object concerned."""
        fields = f"involvedObject.name={about}" if about else ""
        items, _ = self.items(f"/api/v1/namespaces/{namespace}/events", field_selector=fields)
        return sorted(items, key=lambda e: str(e.get("lastTimestamp") or e.get("eventTime") or ""))

    # -- into pods

    def proxy_get(
        self, namespace: str, name: str, port: int | str, path: str = "/", *, kind: str = "pods", scheme: str = "http", timeout_s: float = 5.0
    ) -> bytes:
        """HTTP GET to a pod (``kind="services"``: a Service) through the API server's proxy.

        Raises NotFound both for a missing pod and for a 404 of the pod itself; status 503 when it does not answer.
        """
        who = f"{scheme}:{name}:{port}" if scheme != "http" else f"{name}:{port}"
        return self.api.read("GET", join("api/v1/namespaces", namespace, kind, who, "proxy", path), timeout_s=timeout_s, accept="*/*")

    @contextmanager
    def log_stream(self, namespace: str, pod: str, container: str, *, follow: bool = True, **query: str) -> Iterator[Any]:
        """The urllib3 response that streams a container's log as bytes; ``shutdown()`` of it ends a blocked read.

        :param query: of the API, e.g. ``previous="true"``, ``sinceTime=…``, ``timestamps="true"``.
        """
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        options = {"container": container, "follow": "true" if follow else "false", **query}
        response = self.api.raw("GET", path, query=options, timeout_s=3600.0 if follow else 60.0, accept="*/*")
        try:
            yield response
        finally:
            response.close()

    def logs(self, namespace: str, pod: str, container: str, *, tail_lines: int = 200, previous: bool = False) -> str:
        """The last lines of a container's log."""
        query = {"tailLines": str(tail_lines), **({"previous": "true"} if previous else {})}
        with self.log_stream(namespace, pod, container, follow=False, **query) as response:
            return bytes(response.read()).decode(errors="replace")

    def exec(
        self, namespace: str, pod: str, container: str, argv: Sequence[str], *, timeout_s: float = 30.0, stdin: bytes | None = None
    ) -> Executed:
        """Run ``argv`` in a container (no shell) and wait for its end.

        It is the caller's business that the command only reads; a fault that acts by a command in a pod goes through
        :meth:`harness.kube.gateway.Gateway.exec`.

        :param stdin: bytes handed to it. Known limit: the v4 protocol cannot close standard input, so the command must
            know by itself when it has read enough (``head -c N``).
        :raises NotReady: no end within ``timeout_s``; the command may still run in there.
        """
        core = k8s.CoreV1Api(self.api.fresh_client())
        where = f"exec {namespace}/{pod}/{container}: {' '.join(argv)[:120]}"
        try:
            channel = k8s_stream.stream(
                core.connect_get_namespaced_pod_exec, pod, namespace, container=container, command=list(argv),
                stdin=stdin is not None, stdout=True, stderr=True, tty=False, binary=True, _preload_content=False, _request_timeout=timeout_s,
            )
        except k8s.ApiException as error:
            raise _exec_failed(error, where) from error
        try:
            return _collect(channel.sock, stdin, timeout_s, where)
        except (websocket.WebSocketException, OSError) as error:
            raise ApiFailed(f"the connection broke: {error}", status=0, where=where) from error
        finally:
            channel.close()

    @contextmanager
    def port_forward(self, namespace: str, pod: str, port: int) -> Iterator[Any]:
        """A socket to ``port`` of a pod through the API server; it works from anywhere the API server does."""
        core = k8s.CoreV1Api(self.api.fresh_client())
        where = f"port-forward {namespace}/{pod}:{port}"
        try:
            forward = k8s_stream.portforward(core.connect_get_namespaced_pod_portforward, pod, namespace, ports=str(port))
        except k8s.ApiException as error:
            raise _exec_failed(error, where) from error
        try:
            yield forward.socket(port)
        finally:
            forward.close()

    def _plural(self, api_version: str, kind: str) -> tuple[str, bool]:
        if api_version not in self._plurals:
            answer = self.get(join("api" if "/" not in api_version else "apis", api_version))
            self._plurals[api_version] = {
                r["kind"]: (r["name"], bool(r["namespaced"])) for r in answer.get("resources", []) if "/" not in r["name"]
            }
        if kind not in self._plurals[api_version]:
            raise NotFound(f"the cluster serves no {kind} of {api_version}", status=404, where=self.target.name)
        return self._plurals[api_version][kind]


def _collect(socket: Any, stdin: bytes | None, timeout_s: float, where: str) -> Executed:
    """Read frames until the server closes. The client's own loop polls the raw socket and so stalls on what TLS has buffered."""
    end = time.monotonic() + timeout_s
    streams = {_STDOUT: bytearray(), _STDERR: bytearray(), _STATUS: bytearray()}
    if stdin:
        socket.send_binary(bytes((_STDIN,)) + stdin)
    while True:
        socket.settimeout(max(0.01, end - time.monotonic()))
        try:
            code, frame = socket.recv_data_frame(True)
        except websocket.WebSocketTimeoutException:
            raise NotReady(f"no end after {timeout_s:.0f} s", where=where) from None
        except websocket.WebSocketConnectionClosedException:
            break
        if code == websocket.ABNF.OPCODE_CLOSE:
            break
        if code in (websocket.ABNF.OPCODE_BINARY, websocket.ABNF.OPCODE_TEXT) and frame.data[:1]:
            streams.get(frame.data[0], bytearray()).extend(frame.data[1:])
    return Executed(_exit_code(bytes(streams[_STATUS]), where), bytes(streams[_STDOUT]), bytes(streams[_STDERR]))


def _exit_code(status: bytes, where: str) -> int:
    """The exit code in a v1.Status as the kubelet sends it on channel 3 (remotecommand v4)."""
    try:
        answer = json.loads(status)
    except ValueError:
        raise ApiFailed("the connection ended before the command did", status=0, where=where) from None
    if answer.get("status") == "Success":
        return 0
    for cause in (answer.get("details") or {}).get("causes") or []:
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    raise ApiFailed(f"not executed: {answer.get('message', 'no reason given')}", status=0, where=where)


def _exec_failed(error: Any, where: str) -> ApiFailed:
    text = str(error.reason or error)
    if "404" in text or "not found" in text:
        return NotFound(f"no such pod or container: {text[:200]}", status=404, where=where)
    return ApiFailed(f"refused: {text[:300]}", status=int(error.status or 0), where=where)

