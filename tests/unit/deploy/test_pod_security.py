"""Pod Security `restricted` wherever the software allows: the exceptions in deploy/pod-security.yaml are exactly what the manifests need.

Source: https://kubernetes.io/docs/concepts/security/pod-security-standards/ (restricted, which includes baseline).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.stack.lifecycle import POD_SECURITY
from harness.stack.render import containers_of, kustomize
from harness.support.checkout import Checkout
from tests.unit.deploy.rules import Manifest, pod, workloads

ROOT = Path(__file__).resolve().parents[3]
#: Volumes that `restricted` knows.
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


def breaches(one: Manifest) -> Iterator[str]:
    """What of `restricted` a workload breaks."""
    spec, containers = pod(one), list(containers_of(one))
    whole = spec.get("securityContext") or {}
    own = [c.get("securityContext") or {} for c in containers]
    if any(spec.get(k) for k in ("hostNetwork", "hostPID", "hostIPC")) or any(p.get("hostPort") for c in containers for p in c.get("ports") or []):
        yield "host-network"
    if any(set(v) - {"name"} - VOLUMES for v in spec.get("volumes") or []):
        yield "volumes"
    if any(c.get("privileged") for c in own):
        yield "privileged"
    if any(c.get("allowPrivilegeEscalation") is not False for c in own):
        yield "privilege-escalation"
    if any((c.get("capabilities") or {}).get("drop") != ["ALL"] or set((c.get("capabilities") or {}).get("add") or []) - {"NET_BIND_SERVICE"} for c in own):
        yield "capabilities"
    if any(not c.get("runAsNonRoot", whole.get("runAsNonRoot")) or c.get("runAsUser", whole.get("runAsUser")) == 0 for c in own):
        yield "run-as-root"
    kinds = [(c.get("seccompProfile") or whole.get("seccompProfile") or {}).get("type") for c in own]
    if any(kind not in ("RuntimeDefault", "Localhost") for kind in kinds):
        yield "seccomp"


@pytest.fixture(scope="module")
def manifests() -> list[Manifest]:
    return kustomize(Checkout(ROOT), profile="minimal", variants=(), namespace="mailgale-x")


@pytest.fixture(scope="module")
def exceptions() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "deploy" / "pod-security.yaml").read_text())
    return found


def difference(manifests: list[Manifest], exceptions: dict[str, dict[str, Any]]) -> list[str]:
    found = {one["metadata"]["name"]: set(breaches(one)) for one in workloads(manifests)}
    said = {name: set(one["breaks"]) for name, one in exceptions.items()}
    return [f"{n}: breaks {sorted(found.get(n, ()))}, listed {sorted(said.get(n, ()))}" for n in sorted({*found, *said}) if found.get(n, set()) != said.get(n, set())]


def test_the_exceptions_are_exactly_what_the_manifests_need(manifests: list[Manifest], exceptions: dict[str, dict[str, Any]]):
    assert difference(manifests, exceptions) == []


def test_each_exception_has_a_reason(exceptions: dict[str, dict[str, Any]]):
    assert [name for name, one in exceptions.items() if len(str(one.get("why", ""))) < 20] == []


def test_some_keep_it_whole(manifests: list[Manifest]):
    assert {"janitor", "redis"} <= {one["metadata"]["name"] for one in workloads(manifests) if not list(breaches(one))}


def _container(one: Manifest) -> dict[str, Any]:
    found: dict[str, Any] = pod(one)["containers"][0]
    return found


PLANTED: dict[str, Callable[[Manifest], object]] = {
    "host-network": lambda m: pod(m).update(hostNetwork=True),
    "volumes": lambda m: pod(m).setdefault("volumes", []).append({"name": "x", "hostPath": {"path": "/"}}),
    "privileged": lambda m: _container(m)["securityContext"].update(privileged=True),
    "privilege-escalation": lambda m: _container(m)["securityContext"].pop("allowPrivilegeEscalation"),
    "capabilities": lambda m: _container(m)["securityContext"]["capabilities"].update(add=["NET_ADMIN"]),
    "run-as-root": lambda m: pod(m)["securityContext"].update(runAsUser=0),
    "seccomp": lambda m: pod(m)["securityContext"].pop("seccompProfile"),
}


@pytest.mark.parametrize("breach", PLANTED)
def test_each_breach_is_seen(manifests: list[Manifest], exceptions: dict[str, dict[str, Any]], breach: str):
    spoilt = copy.deepcopy(manifests)
    janitor = next(m for m in workloads(spoilt) if m["metadata"]["name"] == "janitor")
    PLANTED[breach](janitor)
    assert list(breaches(janitor)) == [breach]
    assert difference(spoilt, exceptions)


def test_a_stale_exception_is_seen(manifests: list[Manifest], exceptions: dict[str, dict[str, Any]]):
    assert difference(manifests, {**exceptions, "redis": {"breaks": ["seccomp"], "why": "none"}})


def test_namespaces_say_so():
    assert POD_SECURITY["pod-security.kubernetes.io/audit"] == "restricted"
