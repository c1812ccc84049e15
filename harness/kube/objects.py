"""What the API server says about pods, nodes and endpoints, as small frozen dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

COMPONENT = "app.kubernetes.io/component"


@dataclass(frozen=True)
class Container:
    """One container of a pod. ``id`` is the runtime's (without ``containerd://``), "" before it began."""

    name: str
    id: str
    image: str
    image_id: str
    state: str  #: ``running``, ``waiting``, ``terminated``, ``none``
    reason: str  #: why it waits or ended
    ready: bool
    restarts: int
    exit_code: int | None = None
    init: bool = False


@dataclass(frozen=True)
class Pod:
    """One pod as last seen. ``raw`` is the whole object for what has no field here."""

    name: str
    namespace: str
    uid: str
    node: str
    component: str
    phase: str
    ready: bool
    deleting: bool
    ips: tuple[str, ...]
    containers: tuple[Container, ...]
    labels: Mapping[str, str]
    raw: Mapping[str, Any] = field(repr=False, compare=False, default_factory=dict)

    @property
    def restarts(self) -> int:
        """Restarts of all its containers together."""
        return sum(c.restarts for c in self.containers)

    def container(self, name: str) -> Container:
        """The container called ``name``; KeyError when there is none."""
        for one in self.containers:
            if one.name == name:
                return one
        raise KeyError(name)


@dataclass(frozen=True)
class NodeState:
    """One node as last seen."""

    name: str
    uid: str
    ready: bool
    schedulable: bool
    addresses: tuple[str, ...]
    labels: Mapping[str, str]
    taints: tuple[str, ...] = ()  #: keys of those that keep pods away (NoSchedule, NoExecute)
    images: frozenset[str] = frozenset()  #: names of what its runtime holds, as far as the kubelet reports them
    image_count: int = 0  #: how many images the kubelet reports; it cuts the list (nodeStatusMaxImages)

    @property
    def takes_pods(self) -> bool:
        """Whether an ordinary pod, one without tolerations, may be put there now."""
        return self.ready and self.schedulable and not self.taints


@dataclass(frozen=True)
class Endpoint:
    """One address behind a Service. ``ready`` as the EndpointSlice says; ``pod`` "" where it names none."""

    address: str
    ready: bool
    serving: bool
    terminating: bool
    pod: str
    node: str


@dataclass(frozen=True)
class EndpointSlice:
    """One EndpointSlice of a Service; a dual-stack Service has one per family."""

    name: str
    service: str
    family: str  #: ``IPv4`` or ``IPv6``
    endpoints: tuple[Endpoint, ...]
    ports: Mapping[str, int]


def pod_of(raw: Mapping[str, Any]) -> Pod:
    """A Pod from the API's JSON."""
    meta, spec, status = raw["metadata"], raw.get("spec", {}), raw.get("status", {})
    labels = meta.get("labels") or {}
    return Pod(
        name=meta["name"], namespace=meta.get("namespace", ""), uid=meta.get("uid", ""), node=spec.get("nodeName", ""),
        component=labels.get(COMPONENT, ""), phase=status.get("phase", "Unknown"),
        ready=_condition(status, "Ready"), deleting="deletionTimestamp" in meta,
        ips=tuple(i["ip"] for i in status.get("podIPs") or [] if "ip" in i),
        containers=_containers(spec, status), labels=labels, raw=raw,
    )


def node_of(raw: Mapping[str, Any]) -> NodeState:
    """A NodeState from the API's JSON."""
    meta, spec, status = raw["metadata"], raw.get("spec", {}), raw.get("status", {})
    return NodeState(
        name=meta["name"], uid=meta.get("uid", ""), ready=_condition(status, "Ready"), schedulable=not spec.get("unschedulable"),
        addresses=tuple(a["address"] for a in status.get("addresses") or [] if a.get("type") == "InternalIP"),
        labels=meta.get("labels") or {},
        taints=tuple(t["key"] for t in spec.get("taints") or [] if t.get("effect") in ("NoSchedule", "NoExecute")),
        images=frozenset(name for i in status.get("images") or [] for name in i.get("names") or []),
        image_count=len(status.get("images") or []),
    )


def slice_of(raw: Mapping[str, Any]) -> EndpointSlice:
    """An EndpointSlice from the API's JSON (discovery.k8s.io/v1)."""
    meta = raw["metadata"]
    return EndpointSlice(
        name=meta["name"], service=(meta.get("labels") or {}).get("kubernetes.io/service-name", ""),
        family=raw.get("addressType", ""),
        endpoints=tuple(_endpoint(e, a) for e in raw.get("endpoints") or [] for a in e.get("addresses") or []),
        ports={p.get("name") or "": p["port"] for p in raw.get("ports") or [] if p.get("port")},
    )


def _endpoint(raw: Mapping[str, Any], address: str) -> Endpoint:
    # A missing condition means "true" for ready and serving, "false" for terminating (discovery.k8s.io/v1).
    conditions = raw.get("conditions") or {}
    ready = conditions.get("ready")
    serving = conditions.get("serving")
    return Endpoint(
        address=address, ready=ready is not False, serving=(ready if serving is None else serving) is not False,
        terminating=bool(conditions.get("terminating")), pod=(raw.get("targetRef") or {}).get("name", ""),
        node=raw.get("nodeName") or "",
    )


def _containers(spec: Mapping[str, Any], status: Mapping[str, Any]) -> tuple[Container, ...]:
    seen = {s["name"]: s for k in ("initContainerStatuses", "containerStatuses") for s in status.get(k) or []}
    return tuple(
        _container(c["name"], seen.get(c["name"], {}), init)
        for key, init in (("initContainers", True), ("containers", False))
        for c in spec.get(key) or []
    )


def _container(name: str, status: Mapping[str, Any], init: bool) -> Container:
    state = status.get("state") or {}
    word = next(iter(state), "none")
    detail = state.get(word) or {}
    return Container(
        name=name, id=str(status.get("containerID", "")).rpartition("//")[2], image=status.get("image", ""),
        image_id=status.get("imageID", ""), state=word, reason=detail.get("reason", ""),
        ready=bool(status.get("ready")), restarts=int(status.get("restartCount", 0)), exit_code=detail.get("exitCode"), init=init,
    )


def _condition(status: Mapping[str, Any], name: str) -> bool:
    return any(c.get("type") == name and c.get("status") == "True" for c in status.get("conditions") or [])
