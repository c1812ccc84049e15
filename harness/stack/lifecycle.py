"""A stack's life: up, status, down.

The facts of a deployed stack stand in its ConfigMap ``mailgale-stack``, so that a second ``up`` of the same recipe finds it
and ``status`` and ``down`` need no state on this host.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from harness.cluster import filesystems
from harness.cluster.engine import ensure_engine
from harness.errors import CleanupIncomplete, NotReady, NotSupported, StackFailed
from harness.kube.api import Conflict
from harness.kube.client import Cluster
from harness.kube.gateway import Gateway, Record
from harness.kube.guards import CHECKOUT, MANAGED_BY, MANAGER
from harness.model.target import Target
from harness.stack import canary, foreign, images, nodecache, publish, ready, volumes
from harness.stack.deployed import Stack
from harness.stack.params import Credentials, Params, credentials_of, free_dns_address, make_credentials
from harness.stack.render import NAMESPACE_LABEL, Manifest, images_of, kustomize, render
from harness.support.checkout import Checkout
from harness.support.clock import wait_for
from harness.support.progress import Progress, SilentProgress

if TYPE_CHECKING:
    from harness.stack.access import Access

#: Who breaks `restricted` is told so; who must, and why, stands in deploy/pod-security.yaml (a test holds both equal). Enforced is nothing,
#: since the edge needs the node's network.
POD_SECURITY = {f"pod-security.kubernetes.io/{mode}": level for mode, level in (("enforce", "privileged"), ("audit", "restricted"))}
FACTS = "mailgale-stack"
_EDGE = "Deployment/edge"
_READY_S = 180.0
_CANARY_S = 90.0
_GONE_S = 120.0
#: After this long, pods that were given a second are taken out of the API without waiting for their nodes.
_FAST_S = 40.0
_CLUSTER_SCOPED = (
    ("v1", "PersistentVolume"), ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"), ("rbac.authorization.k8s.io/v1", "ClusterRole"),
)


def up(
    target: Target,
    checkout: Checkout,
    *,
    profile: str,
    variants: Sequence[str] = (),
    users: int = 200,
    time_scale: float = 30.0,
    suffix: str = "stack",
    run_id: str = "none",
    overrides: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    record: Record | None = None,
    prepared: Mapping[str, images.Image] | None = None,
    access: Access | None = None,
    generators: Sequence[str] = (),
) -> Stack:
    """Build what is missing, deploy, and wait until mail passes through the edge. Idempotent: what is up and the same stays.

    :param suffix: the namespace is ``mailgale-<checkout id>-<suffix>``.
    :param overrides: further keys of ``run-params``.
    :param record: told of every change to the cluster.
    :param access: roles of the run: they are bound in the namespace, and what lies in it is applied by the role ``deploy``.
    :param generators: further networks from which the load comes, beside the target's.
    :param prepared: images as of :func:`prepare`; what they hold is deployed, even if the checkout has changed since.
    :raises UsageError: no such profile, variant or parameter.
    :raises NotReady: a foreign cluster lacks an edge node, a storage class or images; nothing was deployed.
    :raises StackFailed: images, manifests or readiness; what was deployed is still there, to be looked at or taken down.
    :raises GuardRefused: the cluster or the namespace is not ours.
    """
    say = progress or SilentProgress()
    namespace, cluster = checkout.namespace(suffix), Cluster(target)
    gateway = Gateway(cluster, checkout.id, run_id, record)
    with say.stage("render"):
        plain = kustomize(checkout, profile=profile, variants=variants, namespace=namespace)
    _edge_is_free(cluster, target, namespace)
    nodecache.allow(target, plain, namespace)
    refs = prepared if prepared is not None and set(images_of(plain)) <= set(prepared) else _images(target, checkout, images_of(plain), say)
    params = Params(
        namespace, users, time_scale, tuple(dict.fromkeys((*target.generator_networks, *generators))), target.pod_networks, overrides=dict(overrides or {}),
        dns_address=_dns_address(cluster, namespace),
    )
    blank = Stack(
        namespace=namespace, target=target, cluster=cluster, checkout_id=checkout.id, run_id=run_id, profile=profile, variants=tuple(variants),
        edge4=_edge(target, ":", False), edge6=_edge(target, ":", True), password="", users=users, mail_domain=params.mail_domain,
        cluster_domain=params.cluster_domain, dns_address=params.dns_address, ca_pem="", images={i.ref: i.id for i in refs.values()},
        manifests_sha256="", time_scale=time_scale, params=params.data(),
    )
    with say.stage(f"deploy {namespace}"):
        stack, manifests = _deploy(blank, plain, params, {n: i.ref for n, i in refs.items()}, gateway, say, access)
    _wait(stack, manifests, say)
    return stack


def prepare(
    target: Target, checkout: Checkout, *, profile: str, progress: Progress, variants: Iterable[Sequence[str]] = (), more: Sequence[str] = ()
) -> dict[str, images.Image]:
    """Build a profile's images and bring them to the nodes, so that each :func:`up` after it only deploys.

    :param variants: sets of variants that will be deployed; some bring components, and so images, of their own.
    :param more: images that are none of the profile's.
    :return: the images by name. Errors as of :func:`up`.
    """
    sets = dict.fromkeys([(), *map(tuple, variants)])
    plain = [m for one in sets for m in kustomize(checkout, profile=profile, variants=one, namespace=checkout.namespace("prepare"))]
    return _images(target, checkout, {*images_of(plain), *more}, progress)


def down(what: Stack | str, *, target: Target | None = None, checkout_id: str = "", fast: bool = True, progress: Progress | None = None) -> None:
    """Delete a stack: its namespace, its cluster-scoped objects, its volumes' directories. Waits until all is gone.

    :param what: a Stack, or the name of a namespace together with ``target`` and ``checkout_id``.
    :param fast: kill the pods instead of letting them stop gracefully.
    :raises GuardRefused: not ours.
    :raises CleanupIncomplete: something is still there after two minutes, on the nodes too (see ``nodecache``).
    """
    say = progress or SilentProgress()
    if isinstance(what, Stack):
        namespace, cluster, owner = what.namespace, what.cluster, what.checkout_id
    elif target is not None and checkout_id:
        namespace, cluster, owner = what, Cluster(target), checkout_id
    else:
        raise StackFailed("down needs a Stack, or a namespace with its target and checkout", where=str(what))
    gateway = Gateway(cluster, owner, any_run=True)
    with say.stage(f"take down {namespace}"):
        if gateway.delete_namespace(namespace):
            _empty(gateway, namespace, fast, say)
        _remove_cluster_scoped(gateway, namespace)
        volumes.remove(cluster.target, namespace)
        for node in nodecache.clear(cluster.target, namespace):
            say.note(f"what the node cache of {namespace} had left on {node} is removed")


def down_all(target: Target, checkout: Checkout, progress: Progress) -> None:
    """Delete every stack that this checkout has deployed on ``target``. Errors as of :func:`down`."""
    for namespace in deployed(target, checkout):
        down(namespace, target=target, checkout_id=checkout.id, progress=progress)
    gateway = Gateway(Cluster(target), checkout.id, any_run=True)
    # Made where nodes share a directory only; elsewhere one of this name is another checkout's.
    if target.volumes_dir and gateway.cluster.find("storage.k8s.io/v1", "StorageClass", volumes.STORAGE_CLASS):
        gateway.delete("storage.k8s.io/v1", "StorageClass", volumes.STORAGE_CLASS)


def deployed(target: Target, checkout: Checkout) -> list[str]:
    """Namespaces of this checkout on ``target``."""
    found = Cluster(target).namespaces(f"{MANAGED_BY}={MANAGER},{CHECKOUT}={checkout.id}")
    return sorted(str(n["metadata"]["name"]) for n in found)


def status(target: Target, checkout: Checkout) -> list[str]:
    """A line for each stack of this checkout, and one for each of its pods."""
    cluster, lines = Cluster(target), []
    for namespace in deployed(target, checkout):
        pods, facts = cluster.pods(namespace), _facts(cluster, namespace)
        made_of = ", ".join([facts["profile"], *facts["variants"]]) if facts else "not applied completely"
        lines.append(f"{namespace}: {sum(p.ready for p in pods)}/{len(pods)} pods ready ({made_of})")
        for pod in pods:
            state = "ready" if pod.ready else next((c.reason for c in pod.containers if c.reason and not c.ready), pod.phase)
            lines.append(f"  {pod.name}  {state}  {pod.node}  {pod.restarts} restarts")
    return lines


def find(target: Target, checkout: Checkout, suffix: str) -> Stack | None:
    """A deployed stack read back from the cluster, or None; whether it is ready is not looked at."""
    cluster, namespace = Cluster(target), checkout.namespace(suffix)
    facts, secret = _facts(cluster, namespace), cluster.find("v1", "Secret", "run-secrets", namespace)
    if not facts or secret is None:
        return None
    made = credentials_of(secret)
    facts.update({k: tuple(facts[k]) for k in ("variants", "workloads", "claims")})
    return Stack(target=target, cluster=cluster, password=made.password, ca_pem=made.ca_pem, **facts)


def _images(target: Target, checkout: Checkout, names: Set[str], progress: Progress) -> dict[str, images.Image]:
    """The images, built, and where the nodes find them; on a foreign cluster also whether it has all else that is needed."""
    if target.kind == "context":
        foreign.check(Cluster(target))
    engine = ensure_engine(checkout, progress)
    found = images.ensure(checkout, engine, names, progress)
    if target.image_registry:
        return publish.publish(engine, target.image_registry, found, progress)
    if target.ours:
        images.bring(checkout, engine, found.values(), progress)
    else:
        foreign.have_images(Cluster(target), found.values(), progress)
    return found


def _deploy(
    blank: Stack, plain: Sequence[Manifest], params: Params, refs: Mapping[str, str], gateway: Gateway, say: Progress, access: Access | None
) -> tuple[Stack, Sequence[Manifest]]:
    """Apply what is not there yet; the Stack with its credentials."""
    stack, rendered = _rendered(blank, plain, params, refs, gateway, _known_credentials(blank))
    facts = _facts(stack.cluster, stack.namespace)
    if facts and facts.get("manifests_sha256") == stack.manifests_sha256 and facts.get("run_id") == stack.run_id:
        return stack, rendered
    if stack.cluster.namespace(stack.namespace) is not None and _begun(stack, gateway):
        # Another recipe, or the remains of one: half of each would be neither.
        down(stack)
        stack, rendered = _rendered(blank, plain, params, refs, gateway, None)
    _make(gateway, stack.namespace)
    try:
        filesystems.provide(stack.target, stack.namespace, volumes.own_file_systems(rendered))
    except NotSupported as lacking:  # the volumes are plain directories then, and faults that need more say so
        say.note(f"not supported here: {lacking}")
    _apply(stack, [*rendered, _facts_manifest(stack)], gateway, access)
    return stack, rendered


def open_namespace(gateway: Gateway, namespace: str, access: Access) -> None:
    """Make an arm's namespace with the roles of its run before anything is deployed, so that who observes is there from the first pod on.

    Errors as of :func:`up`.
    """
    if gateway.cluster.namespace(namespace) is None:
        _make(gateway, namespace)
        gateway.apply(access.roles(), namespace)


def _make(gateway: Gateway, namespace: str) -> None:
    wait_for(lambda: _created(gateway, namespace), deadline_s=_GONE_S, what=f"namespace {namespace} to go before it is made anew")


def _begun(stack: Stack, gateway: Gateway) -> bool:
    """Whether the namespace holds (a part of) a stack, or is another run's; one that was only opened holds roles and no more."""
    found = stack.cluster.namespace(stack.namespace) or {"metadata": {}}
    return not gateway.owner.owns(found["metadata"]) or stack.cluster.find("v1", "Secret", "run-secrets", stack.namespace) is not None


def _apply(stack: Stack, manifests: Sequence[Manifest], gateway: Gateway, access: Access | None) -> None:
    """Rights and what has no namespace by the user's own rights, everything else by those of the role ``deploy``."""
    if access is None:
        gateway.apply(manifests, stack.namespace)
        return
    own = [m for m in manifests if _is_a_right(m) or not gateway.cluster.namespaced(m["apiVersion"], m["kind"])]
    gateway.apply([*access.roles(), *own], stack.namespace)
    access.until_in_force(stack.namespace)
    gateway.acting_as(access.target_as("deploy")).apply([m for m in manifests if m not in own], stack.namespace)


def _is_a_right(manifest: Manifest) -> bool:
    return manifest["kind"] == "ServiceAccount" or str(manifest["apiVersion"]).startswith("rbac.authorization.k8s.io/")


def _rendered(
    blank: Stack, plain: Sequence[Manifest], params: Params, refs: Mapping[str, str], gateway: Gateway, known: Credentials | None
) -> tuple[Stack, Sequence[Manifest]]:
    made = known or make_credentials(params, blank.target)
    found = render(
        json.loads(json.dumps(plain)), params=params, credentials=made, images=refs, owner_labels=gateway.owner.labels,
        shared_volumes=bool(blank.target.volumes_dir), storage_class=blank.target.storage_class,
        edge_node=blank.target.edge.name if blank.target.kind == "context" else "",
    )
    stack = replace(
        blank, password=made.password, ca_pem=made.ca_pem, manifests_sha256=found.sha256,
        workloads=tuple(e.name for e in ready.expected_of(found.manifests)),
        claims=tuple(name for name, _ in volumes.claims_of(found.manifests)),
    )
    return stack, found.manifests


def _wait(stack: Stack, manifests: Sequence[Manifest], progress: Progress) -> None:
    nodes = [n.labels for n in stack.cluster.nodes() if n.takes_pods]
    with progress.stage("pods ready"):
        ready.wait_ready(stack.cluster, stack.namespace, ready.expected_of(manifests, nodes), deadline_s=_READY_S, progress=progress)
    if _EDGE in stack.workloads:  # a laboratory without mail has none
        canary.prove(stack, deadline_s=_CANARY_S, progress=progress)


def _edge_is_free(cluster: Cluster, target: Target, namespace: str) -> None:
    """A node's host ports are there once: a second stack's edge would wait for ever.

    :raises StackFailed: another stack has them.
    """
    found = cluster.items("/api/v1/pods", label_selector=f"{MANAGED_BY}={MANAGER}", field_selector=f"spec.nodeName={target.edge.name}")[0]
    others = {p["metadata"]["namespace"] for p in found if p["spec"].get("hostNetwork")} - {namespace}
    if others:
        raise StackFailed("another stack holds the edge node's ports", where=sorted(others)[0], todo="mailgale stack down")


def _created(gateway: Gateway, namespace: str) -> str:
    try:
        return gateway.create_namespace(namespace, labels=POD_SECURITY)
    except Conflict:
        return ""


def _known_credentials(blank: Stack) -> Credentials | None:
    secret = blank.cluster.find("v1", "Secret", "run-secrets", blank.namespace)
    return credentials_of(secret) if secret and secret.get("data") else None


def _dns_address(cluster: Cluster, namespace: str) -> str:
    """The address this namespace's DNS has already, or a free one."""
    services = cluster.items("/api/v1/services")[0]
    facts = _facts(cluster, namespace)
    if facts:
        return str(facts["dns_address"])
    taken = {str(s["spec"].get("clusterIP")) for s in services if s["metadata"]["namespace"] != namespace}
    return free_dns_address(cluster.target, taken)


def _edge(target: Target, mark: str, wanted: bool) -> str:
    return next((a for a in target.edge.addresses if (mark in a) == wanted), "")


def _facts_manifest(stack: Stack) -> Manifest:
    keep = ("namespace", "checkout_id", "run_id", "profile", "variants", "edge4", "edge6", "users", "mail_domain", "cluster_domain",
            "dns_address", "images", "manifests_sha256", "time_scale", "params", "workloads", "claims")
    text = json.dumps({k: getattr(stack, k) for k in keep})
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": FACTS}, "data": {"stack.json": text}}


def _facts(cluster: Cluster, namespace: str) -> dict[str, Any]:
    found = cluster.find("v1", "ConfigMap", FACTS, namespace)
    facts = json.loads(found["data"]["stack.json"]) if found else {}
    return facts if isinstance(facts, dict) else {}


def _empty(gateway: Gateway, namespace: str, fast: bool, progress: Progress) -> None:
    """Wait until a namespace that is being deleted is gone; with ``fast`` its pods get a second to stop."""
    progress.waiting(f"namespace {namespace} to go")
    gone = partial(_is_gone, gateway.cluster, namespace)
    try:
        if fast:
            # One second, not none: a pod killed with grace 0 leaves the API at once, its processes and host ports later.
            _kill_pods(gateway, namespace, 1)
            with suppress(NotReady):
                wait_for(gone, deadline_s=_FAST_S, what="pods", every_s=0.2)
                return
            _kill_pods(gateway, namespace, 0)
        wait_for(gone, deadline_s=_GONE_S, what=f"namespace {namespace} to go", every_s=0.2)
    except NotReady as error:
        raise CleanupIncomplete(error.what, where=f"namespace {namespace}", todo="mailgale stack down") from error


def _is_gone(cluster: Cluster, namespace: str) -> bool:
    return cluster.namespace(namespace) is None


def _kill_pods(gateway: Gateway, namespace: str, grace_s: int) -> None:
    for pod in gateway.cluster.pods(namespace):
        gateway.delete_pod(pod.name, namespace, grace_s)


def _remove_cluster_scoped(gateway: Gateway, namespace: str) -> None:
    labels = f"{MANAGED_BY}={MANAGER},{CHECKOUT}={gateway.owner.checkout_id},{NAMESPACE_LABEL}={namespace}"
    for api_version, kind in _CLUSTER_SCOPED:
        for item in gateway.cluster.items(gateway.cluster.path_of(api_version, kind), label_selector=labels)[0]:
            gateway.delete(api_version, kind, str(item["metadata"]["name"]))
