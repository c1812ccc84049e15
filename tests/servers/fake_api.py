"""A small API server over a real socket: objects by path, watches, and whatever misbehaviour a test asks for."""

from __future__ import annotations

import json
import queue
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from harness.model.target import Node, Target

UID = "11111111-2222-3333-4444-555555555555"
KINDS = {
    "/api/v1": {"Namespace": ("namespaces", False), "Pod": ("pods", True), "ConfigMap": ("configmaps", True), "Secret": ("secrets", True),
                "Service": ("services", True), "Node": ("nodes", False), "PersistentVolume": ("persistentvolumes", False),
                "PersistentVolumeClaim": ("persistentvolumeclaims", True), "ServiceAccount": ("serviceaccounts", True)},
    "/apis/apps/v1": {"Deployment": ("deployments", True), "StatefulSet": ("statefulsets", True)},
    "/apis/networking.k8s.io/v1": {"NetworkPolicy": ("networkpolicies", True)},
    "/apis/storage.k8s.io/v1": {"StorageClass": ("storageclasses", False)},
    "/apis/rbac.authorization.k8s.io/v1": {"ClusterRole": ("clusterroles", False), "ClusterRoleBinding": ("clusterrolebindings", False),
                                          "Role": ("roles", True), "RoleBinding": ("rolebindings", True)},
    "/apis/coordination.k8s.io/v1": {"Lease": ("leases", True)},
}


class FakeApi:
    """State of the server. ``failures``: (method, path prefix) → status; ``texts``: path → body of any GET."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str, Any]] = []
        self.failures: dict[tuple[str, str], int] = {}
        self.texts: dict[str, bytes] = {}
        self.streams: dict[str, queue.Queue[bytes | None]] = {}
        self.version = 100
        self.dead = False
        self.put("/api/v1/namespaces/kube-system", {"metadata": {"name": "kube-system", "uid": UID}})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def put(self, path: str, value: dict[str, Any]) -> dict[str, Any]:
        self.version += 1
        meta = value.setdefault("metadata", {})
        meta.setdefault("uid", f"uid-{path}")
        meta["resourceVersion"] = str(self.version)
        self.objects[path] = value
        return value

    def namespace(self, name: str, **labels: str) -> None:
        self.put(f"/api/v1/namespaces/{name}", {"kind": "Namespace", "metadata": {"name": name, "labels": labels}})

    @property
    def mutations(self) -> list[tuple[str, str]]:
        return [(m, p) for m, p, _ in self.requests if m != "GET"]

    def emit(self, path: str, kind: str, value: dict[str, Any]) -> None:
        self.streams.setdefault(path, queue.Queue()).put(json.dumps({"type": kind, "object": value}).encode() + b"\n")

    def cut(self, path: str) -> None:
        """End the stream that is open at ``path``."""
        self.streams.setdefault(path, queue.Queue()).put(None)

    def target(self, folder: Path, **changes: Any) -> Target:
        port = self.server.server_address[1]
        config = {
            "apiVersion": "v1", "kind": "Config", "current-context": "fake", "users": [{"name": "u", "user": {"token": "t"}}],
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
            "contexts": [{"name": "fake", "context": {"cluster": "c", "user": "u"}}],
        }
        path = folder / "kubeconfig"
        path.write_text(yaml.safe_dump(config))
        fields: dict[str, Any] = {
            "kind": "kind", "name": "fake", "kubeconfig": str(path), "context": "fake", "uid": UID,
            "nodes": (Node("n1", "worker", ("127.0.0.1", "::1"), edge=True),), "generator_networks": ("127.0.0.0/8",),
            "pod_networks": ("10.244.0.0/16",), "service_networks": ("10.96.0.0/16", "fd00:10:96::/112"),
        }
        return Target(**{**fields, **changes})

    def die(self) -> None:
        """Be gone at once: connections that are open get no answer any more, new ones are refused."""
        self.dead = True
        self.close()

    def close(self) -> None:
        for one in self.streams.values():
            one.put(None)
        self.server.shutdown()
        self.server.server_close()


@contextmanager
def fake_api() -> Iterator[FakeApi]:
    api = FakeApi()
    try:
        yield api
    finally:
        api.close()


def _child(path: str, collection: str) -> bool:
    """Whether an object lies right in a collection."""
    return path.startswith(f"{collection}/") and "/" not in path[len(collection) + 1 :]


def _chosen(value: dict[str, Any], selector: str) -> bool:
    """Equality-based label selectors; an object of a test that has no labels at all is chosen by any."""
    labels = value["metadata"].get("labels")
    wanted = dict(part.split("=", 1) for part in selector.split(",") if "=" in part)
    return labels is None or wanted.items() <= labels.items()


def merged(old: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    base = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            base.pop(key, None)
        else:
            base[key] = merged(base.get(key), value)
    return base


def _handler(api: FakeApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body are two writes; the second would wait for the peer's delayed ACK

        def log_message(self, *_: Any) -> None:
            return

        def do_GET(self) -> None:
            self._answer("GET")

        def do_POST(self) -> None:
            self._answer("POST")

        def do_PATCH(self) -> None:
            self._answer("PATCH")

        def do_DELETE(self) -> None:
            self._answer("DELETE")

        def _answer(self, method: str) -> None:
            if api.dead:
                self.close_connection = True
                return None
            url = urllib.parse.urlsplit(self.path)
            query = dict(urllib.parse.parse_qsl(url.query))
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            api.requests.append((method, url.path, body))
            for (m, prefix), status in list(api.failures.items()):
                if m == method and url.path.startswith(prefix):
                    return self._say(status, {"kind": "Status", "code": status, "message": "made to fail"})
            if method == "GET" and ("watch" in query or (url.path in api.streams and "follow" in query)):
                return self._stream(url.path)
            return getattr(self, f"_{method.lower()}")(url.path, body, query)

        def _get(self, path: str, body: Any, query: dict[str, str]) -> None:
            if path in api.texts:
                return self._bytes(200, api.texts[path])
            if path in KINDS:
                return self._say(200, {"resources": [{"kind": k, "name": n, "namespaced": s} for k, (n, s) in KINDS[path].items()]})
            if path in api.objects:
                return self._say(200, api.objects[path])
            if path.rsplit("/", 1)[-1] in {n for g in KINDS.values() for n, _ in g.values()} | {"endpointslices", "events"}:
                tail = "/" + path.rsplit("/", 1)[-1] + "/"
                everywhere = path.count("/") == 3 and tail != "/namespaces/"
                items = [o for p, o in api.objects.items() if _child(p, path) or (everywhere and "/namespaces/" in p and tail in p)]
                items = [o for o in items if _chosen(o, query.get("labelSelector", ""))]
                return self._say(200, {"items": items, "metadata": {"resourceVersion": str(api.version)}})
            return self._say(404, {"kind": "Status", "code": 404, "message": f"{path} not found"})

        def _post(self, path: str, body: Any, query: dict[str, str]) -> None:
            if path.endswith("/token"):
                return self._say(201, {**body, "status": {"token": f"token-of-{path.split('/')[-2]}"}})
            whole = path if path.endswith("/eviction") else f"{path}/{body['metadata']['name']}"
            if whole in api.objects:
                return self._say(409, {"kind": "Status", "code": 409, "message": "already exists"})
            return self._say(201, api.put(whole, body))

        def _patch(self, path: str, body: Any, query: dict[str, str]) -> None:
            wanted = body.get("metadata", {}).get("resourceVersion") if isinstance(body, dict) else None
            if wanted and wanted != api.objects.get(path, {}).get("metadata", {}).get("resourceVersion"):
                return self._say(409, {"kind": "Status", "code": 409, "message": "it is another by now"})
            if "merge-patch" in (self.headers.get("Content-Type") or ""):
                return self._say(200, api.put(path, merged(api.objects.get(path, {}), body)))
            return self._say(200, api.put(path, {**api.objects.get(path, {}), **body} if isinstance(body, dict) else api.objects[path]))

        def _delete(self, path: str, body: Any, query: dict[str, str]) -> None:
            found = api.objects.pop(path, None)
            if path.startswith("/api/v1/namespaces/") and path.count("/") == 4:  # what is in a namespace goes with it
                for inside in [p for p in api.objects if f"{path.removeprefix('/api/v1')}/" in p]:
                    del api.objects[inside]
            return self._say(200 if found else 404, {"kind": "Status", "code": 404, "message": "not found"})

        def _stream(self, path: str) -> None:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            source = api.streams.setdefault(path, queue.Queue())
            while (data := source.get()) is not None:
                self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")

        def _say(self, status: int, value: dict[str, Any]) -> None:
            self._bytes(status, json.dumps(value).encode())

        def _bytes(self, status: int, data: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return Handler
