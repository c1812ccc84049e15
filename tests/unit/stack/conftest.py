"""A tiny checkout with a profile, a variant and a component, rendered by the real kustomize."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.model.target import Node, Target
from harness.support.checkout import Checkout

WORKLOAD = """
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: mx, labels: {app.kubernetes.io/component: mx}}
spec:
  replicas: 1
  selector: {matchLabels: {app.kubernetes.io/component: mx}}
  template:
    metadata: {labels: {app.kubernetes.io/component: mx}}
    spec:
      dnsPolicy: None
      dnsConfig: {nameservers: ["10.96.0.53"]}
      containers:
        - {name: mx, image: "mailgale/mx:dev", env: [{name: OTHER, value: "110.96.0.53 10.96.0.530"}]}
        - {name: queue-status, image: "mailgale/queue-status:dev"}
  volumeClaimTemplates:
    - metadata: {name: spool}
      spec: {storageClassName: mailgale-volumes, accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: dns}
rules: []
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: dns}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: dns}
subjects: [{kind: ServiceAccount, name: dns, namespace: elsewhere}]
"""


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    root = tmp_path / "checkout"
    deploy = root / "deploy"
    write(deploy / "components/mx/manifests.yaml", WORKLOAD)
    write(deploy / "components/mx/kustomization.yaml", "resources: [manifests.yaml]\n")
    write(deploy / "components/mx/component.yaml", "role: takes mail in\nworkloads: [StatefulSet/mx]\nabilities: [kill]\nqueue: {port: 9154}\n")
    write(deploy / "components/mx/Dockerfile", "ARG BASE\nFROM ${BASE}\nCOPY start /start\nCOPY conf/ /conf/\n")
    write(deploy / "components/mx/Dockerfile.queue-status", "ARG BASE\nFROM ${BASE}\nCOPY status.py /\n")
    for name in ("start", "conf/a", "status.py", "unused"):
        write(deploy / "components/mx" / name, name)
    write(
        deploy / "profiles/minimal/kustomization.yaml",
        "# The smallest.\nresources: [../../components/mx]\ngeneratorOptions: {disableNameSuffixHash: true}\n"
        "configMapGenerator: [{name: run-params, literals: [USERS=1, LIMIT_RATE=off]}]\n"
        "secretGenerator: [{name: run-secrets, literals: [user-password=x]}]\n",
    )
    write(
        deploy / "variants/mx-2x/kustomization.yaml",
        "# Two pods take mail in.\napiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nreplicas: [{name: mx, count: 6}]\n",
    )
    return Checkout(root)


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return Target(
        "kind", "t", str(tmp_path / "kubeconfig"), "c", "uid", (Node("n1", "worker", ("127.0.0.1", "::1"), edge=True),), ("127.0.0.1/32",),
        ("10.244.0.0/16",), ("10.96.0.0/16",), volumes_dir=str(tmp_path / "volumes"),
    )
