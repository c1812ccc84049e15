"""The manifests of a load in the cluster: a Locust master, its workers, and for each of them a volume and a keeper.

    load-master, load-1 … load-N      Locust; each worker's engine writes load-<n>.log to its volume, /record
    load-keeper-0 … load-keeper-N     hand out what lies there (harness.load.keeper); 0 is the master's

A keeper is placed first and its member on the same node: they share a volume, and a clock. Pods have no controller: a worker that was killed
must not begin again, since its log tells of mail that nobody else may send. All run without rights, as one user with a read-only root.
Source: Pod Security Standards, profile "restricted"; networking.k8s.io/v1 NetworkPolicy.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.load.spec import LoadSpec
from harness.model.target import Target
from harness.stack.volumes import STORAGE_CLASS
from harness.support.clock import OFFSET_ENV

Manifest = dict[str, Any]

COMPONENT = "load"
MASTER = "load-master"
TASK, SOURCES, POLICY = "load-task", "load-sources", "load-to-edge"
LOCUST_PORT, KEEPER_PORT = 5557, 8970
USER = 10001
RECORD, CODE, SECRETS = "/record", "/code", "/task"
#: Which engine a worker runs, ``n/N``: Locust's own numbering depends on who connects first.
WORKER_ENV = "MAILGALE_LOAD_WORKER"
STOP_GRACE_S = 40
_LABEL = "app.kubernetes.io/component"
#: Distinguishes the pods of one load.
MEMBER = "mailgale.dev/load"


@dataclass(frozen=True)
class Placed:
    """Where the members run and what they are told.

    :param workers: how many.
    :param edges: addresses of the edge, which the workers alone may reach beside the namespace.
    :param ports: its ports.
    :param lives_s: a member is ended by its node after so long, whoever is still there to do it.
    :param prefers: name of the node that they should be on; "" = any.
    """

    image: str
    workers: int
    edges: tuple[str, ...]
    ports: tuple[int, ...]
    dns_address: str
    cluster_domain: str
    lives_s: float
    prefers: str = ""

    @property
    def numbers(self) -> range:
        """0 is the master, 1 … N are the workers."""
        return range(self.workers + 1)


def generator_networks(target: Target) -> tuple[str, ...]:
    """From where the edge sees a load in the cluster: from the pods, or from their nodes where the network plugin masquerades."""
    nodes = tuple(f"{a}/{128 if ':' in a else 32}" for n in target.nodes for a in n.addresses)
    return tuple(dict.fromkeys((*target.generator_networks, *target.pod_networks, *nodes)))


def name_of(number: int) -> str:
    """The pod of a member."""
    return f"load-{number}" if number else MASTER


def keeper_of(number: int) -> str:
    """The pod that hands out a member's files."""
    return f"load-keeper-{number}"


def claim_of(number: int) -> str:
    """The claim of a member's volume."""
    return f"load-record-{number}"


def belongings(placed: Placed, spec: LoadSpec, ca_pem: str, sources: bytes, scenario: str) -> list[Manifest]:
    """What must be there before any pod: the task, the sources, the way to the edge, the claims.

    :param scenario: text of the locustfile.
    """
    return [
        _secret({"spec.json": _inside(spec).to_json(private=True), "ca.pem": ca_pem}),
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": SOURCES}, "data": {f"{spec.scenario}.py": scenario},
         "binaryData": {"sources.zip": base64.b64encode(sources).decode()}},
        policy(placed),
        *(_claim(n) for n in placed.numbers),
    ]


def _inside(spec: LoadSpec) -> LoadSpec:
    """The same task with the paths of a member."""
    return spec.replace(out=RECORD, ca_file=f"{SECRETS}/ca.pem" if spec.ca_file else "")


def _secret(data: Mapping[str, str]) -> Manifest:
    encoded = {k: base64.b64encode(v.encode()).decode() for k, v in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": TASK}, "data": encoded}


def policy(placed: Placed) -> Manifest:
    """Lets the load, and nothing else, out to the edge: that is a node's address, which a rule for pods does not cover."""
    to = [{"ipBlock": {"cidr": f"{a}/{128 if ':' in a else 32}"}} for a in placed.edges]
    spec = {"podSelector": {"matchLabels": {_LABEL: COMPONENT}}, "policyTypes": ["Egress"],
            "egress": [{"to": to, "ports": [{"protocol": "TCP", "port": p} for p in placed.ports]}]}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": POLICY}, "spec": spec}


def _claim(number: int) -> Manifest:
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": claim_of(number)},
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": STORAGE_CLASS, "resources": {"requests": {"storage": "2Gi"}}}}


def keeper(placed: Placed, number: int) -> Manifest:
    """The pod that hands out the files of member ``number``; begun again whenever it ends."""
    words = ["python", "-m", "harness.load.keeper", RECORD, str(KEEPER_PORT)]
    container = {
        **_container("keeper", placed.image, words, memory="64Mi", memory_most="128Mi"),
        "ports": [{"name": "keeper", "containerPort": KEEPER_PORT}],
        "readinessProbe": {"httpGet": {"path": "/clock", "port": KEEPER_PORT}, "periodSeconds": 1, "timeoutSeconds": 5},
    }
    spec = {**_pod_spec(placed, container, number), "restartPolicy": "Always", "terminationGracePeriodSeconds": 2}
    if placed.prefers:
        wish = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [placed.prefers]}]}
        spec["affinity"] = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": wish}]}}
        spec["tolerations"] = [{"operator": "Exists", "effect": "NoSchedule"}]
    return _pod(keeper_of(number), "load-keeper", spec)


def master(placed: Placed, scenario: str, node: str) -> Manifest:
    """Locust's master, on its keeper's ``node``."""
    words = [*_locust(scenario), "--master", "--expect-workers", str(placed.workers), "--expect-workers-max-wait", "90", "--headless",
             "--only-summary", "--csv", f"{RECORD}/locust"]
    return _member(placed, 0, words, node, {}, memory="96Mi")


def worker(placed: Placed, number: int, scenario: str, node: str, master_address: str, offset_ns: int) -> Manifest:
    """Locust's worker ``number``.

    :param offset_ns: by how much the clock of ``node`` is ahead of the run's.
    """
    words = [*_locust(scenario), "--worker", "--master-host", master_address]
    environment = {WORKER_ENV: f"{number}/{placed.workers}", **({OFFSET_ENV: str(offset_ns)} if offset_ns else {})}
    return _member(placed, number, words, node, environment, memory="192Mi")


def _locust(scenario: str) -> list[str]:
    return ["python", "-m", "locust", "-f", f"{CODE}/{scenario}.py"]


def _member(placed: Placed, number: int, words: Sequence[str], node: str, environment: Mapping[str, str], *, memory: str) -> Manifest:
    container = _container("locust", placed.image, words, memory=memory, memory_most="2Gi")
    variables = {"MAILGALE_LOAD_SPEC": f"{SECRETS}/spec.json", **environment}
    container["env"] += [{"name": k, "value": v} for k, v in variables.items()]
    container["volumeMounts"].append({"name": "task", "mountPath": SECRETS, "readOnly": True})
    spec = {**_pod_spec(placed, container, number), "restartPolicy": "Never", "nodeName": node,
            "terminationGracePeriodSeconds": STOP_GRACE_S, "activeDeadlineSeconds": int(placed.lives_s)}
    spec["volumes"].append({"name": "task", "secret": {"secretName": TASK, "defaultMode": 0o440}})
    return _pod(name_of(number), COMPONENT, spec)


def _container(name: str, image: str, words: Sequence[str], *, memory: str, memory_most: str) -> Manifest:
    """No CPU limit: the generator must not be what is throttled."""
    return {
        "name": name, "image": image, "imagePullPolicy": "IfNotPresent", "command": list(words), "workingDir": "/tmp",
        "env": [{"name": "PYTHONPATH", "value": f"{CODE}/sources.zip"}, {"name": "HOME", "value": "/tmp"}],
        "resources": {"requests": {"cpu": "20m", "memory": memory}, "limits": {"memory": memory_most}},
        "securityContext": {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [
            {"name": "record", "mountPath": RECORD}, {"name": "code", "mountPath": CODE, "readOnly": True}, {"name": "tmp", "mountPath": "/tmp"},
        ],
    }


def _pod_spec(placed: Placed, container: Manifest, number: int) -> Manifest:
    dns = {"nameservers": [placed.dns_address], "searches": [f"svc.{placed.cluster_domain}"], "options": [{"name": "ndots", "value": "1"}]}
    return {
        "dnsPolicy": "None", "dnsConfig": dns, "enableServiceLinks": False, "automountServiceAccountToken": False, "containers": [container],
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER, "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumes": [
            {"name": "record", "persistentVolumeClaim": {"claimName": claim_of(number)}}, {"name": "code", "configMap": {"name": SOURCES}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}},
        ],
    }


def _pod(name: str, component: str, spec: Manifest) -> Manifest:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {_LABEL: component, MEMBER: name}}, "spec": spec}
