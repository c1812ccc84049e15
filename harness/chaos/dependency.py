"""Faults of a component that others depend on: its Service leads nowhere, or to a pod that is silent, slow, or answers rubbish.

The component itself is not touched. Works by the API alone, so on any cluster. Source: Kubernetes, Service without selected pods: kube-proxy
rejects connections to it; to a headless one its name has no addresses.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

from harness.chaos.fault import Fault, When, carry_out
from harness.chaos.world import FaultFailed
from harness.errors import NotSupported
from harness.kube.objects import COMPONENT, Pod

MODES = ("refuse", "silent", "slow", "garbage")
MARK = "mailgale.dev/impostor"
_SOURCE = Path(__file__).with_name("impostor.py")
#: Images of the stack that hold Python.
_PYTHON = re.compile(r"(^|/)(mailgale-)?postfix[:@]")


def service_hijack(
    component: str, mode: str = "refuse", for_s: float = 20.0, delay_s: float = 2.0, victims: list[str] | None = None, fault: str = "",
    when: When = None, deadline_s: float = 120.0,
) -> dict[str, Any]:
    """Lead the Services of a component astray for ``for_s`` seconds.

    :param mode: ``refuse`` (nobody is there), ``silent`` (connections are taken, nothing is said), ``slow`` (every piece ``delay_s`` late, both
        ways), ``garbage`` (octets that are no protocol).
    Evidence: the Service's endpoints are not the component's pods any more; with an impostor, how many connections came to it. Undone when
    the endpoints are the component's own. Known limits: connections that were open stay with their pod; TCP only.
    """
    act = partial(_service_hijack, mode=mode, for_s=for_s, delay_s=delay_s)
    return carry_out("service_hijack", act, component=component, victims=victims, fault=fault, when=when, deadline_s=deadline_s)


def _service_hijack(f: Fault, mode: str, for_s: float, delay_s: float) -> None:
    if mode not in MODES:
        raise FaultFailed(f"there is no mode '{mode}'", where=f.name, todo=f"one of {', '.join(MODES)}")
    services = _services(f)
    own = {ip for p in f.world.cluster.pods(f.world.spec.namespace, component=f.component) for ip in p.ips}
    name = f"impostor-{f.name}"[:50].rstrip("-.")
    if mode != "refuse":
        _start(f, name, mode, delay_s, services)
    for service in services:
        f.arm("service_selector", service=service["metadata"]["name"], selector=dict(service["spec"]["selector"]))
    f.say("begin", mode=mode, for_s=for_s, services=[s["metadata"]["name"] for s in services], impostor=name if mode != "refuse" else "")
    for service in services:
        patch = [{"op": "replace", "path": "/spec/selector", "value": {MARK: name}}]
        f.world.gateway.patch("v1", "Service", service["metadata"]["name"], f.world.spec.namespace, patch, how="json")
    for service in services:
        led = f.until(partial(_led_astray, f, service["metadata"]["name"], own, mode != "refuse"), f"service {service['metadata']['name']} leads astray")
        f.say("evidence", service=service["metadata"]["name"], endpoints=led[1:])
    f.hold(for_s)
    if mode != "refuse":
        _was_asked(f, name)
    f.say("end")


def _services(f: Fault) -> list[dict[str, Any]]:
    """The Services that select pods of the component."""
    found, _ = f.world.cluster.items(f"/api/v1/namespaces/{f.world.spec.namespace}/services")
    mine = [s for s in found if (s["spec"].get("selector") or {}).get(COMPONENT) == f.component]
    if not mine:
        raise FaultFailed("no Service leads to it", where=f.component)
    return mine


def _led_astray(f: Fault, service: str, own: set[str], impostor: bool) -> list[str]:
    """["astray", addresses …] once no endpoint of ``service`` is one of ``own`` (and one is there, with an impostor); [] before."""
    ready = {e.address for s in f.world.cluster.endpointslices(f.world.spec.namespace, service) for e in s.endpoints if e.ready}
    return ["astray", *sorted(ready)] if not ready & own and bool(ready) == impostor else []


def _start(f: Fault, name: str, mode: str, delay_s: float, services: list[dict[str, Any]]) -> None:
    pods = [p for p in f.world.cluster.pods(f.world.spec.namespace, component=f.component) if p.ready and p.ips]
    image = _python_image(f)
    if not image:
        raise NotSupported("no pod here has an image with Python that an impostor could be made of")
    if not pods:
        raise FaultFailed("has no ready pod that could be impersonated", where=f.component)
    ports = sorted({_port(p, pods[0]) for s in services for p in s["spec"]["ports"]})
    f.arm("pod_gone", pod=name)
    arguments = [mode, str(delay_s), ",".join(map(str, ports)), ",".join(p.ips[0] for p in pods)]
    f.world.gateway.apply([_manifest(name, image, arguments, ports)], f.world.spec.namespace)
    f.until(lambda: (found := f.world.pod(name)) is not None and found.ready, f"the impostor {name} listens")


def _python_image(f: Fault) -> str:
    """An image that is on the nodes already and holds Python; "" when none does."""
    images = (str(c["image"]) for p in f.world.cluster.pods(f.world.spec.namespace) for c in p.raw["spec"]["containers"])
    return next((i for i in images if _PYTHON.search(i)), "")


def _port(port: dict[str, Any], pod: Pod) -> int:
    """The number on which pods listen for a Service's port."""
    wanted = port.get("targetPort", port["port"])
    if isinstance(wanted, int):
        return wanted
    named = (p for c in pod.raw["spec"]["containers"] for p in c.get("ports") or [])
    return next((int(p["containerPort"]) for p in named if p.get("name") == wanted), int(port["port"]))


def _manifest(name: str, image: str, arguments: list[str], ports: list[int]) -> dict[str, Any]:
    small = {"cpu": "100m", "memory": "64Mi"}
    container = {
        "name": "impostor", "image": image, "imagePullPolicy": "IfNotPresent",
        "command": ["/usr/bin/python3", "-I", "-u", "-c", _SOURCE.read_text(), *arguments],
        "ports": [{"containerPort": p} for p in ports], "resources": {"requests": {"cpu": "10m", "memory": "24Mi"}, "limits": small},
        "readinessProbe": {"exec": {"command": ["test", "-s", "/tmp/seen"]}, "periodSeconds": 1},
    }
    spec = {
        "containers": [container], "terminationGracePeriodSeconds": 1, "enableServiceLinks": False, "automountServiceAccountToken": False,
        "dnsPolicy": "None", "dnsConfig": {"nameservers": ["127.0.0.1"]},
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {MARK: name, COMPONENT: "impostor"}}, "spec": spec}


def _was_asked(f: Fault, name: str) -> None:
    done = f.world.cluster.exec(f.world.spec.namespace, name, "impostor", ["cat", "/tmp/seen"])
    count = int(done.stdout.strip() or b"0")
    if done.code != 0 or count < 1:
        raise FaultFailed("nobody came to the impostor, so nothing was shown", where=name)
    f.say("evidence", impostor=name, connections=count)
