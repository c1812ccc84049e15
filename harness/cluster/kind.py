"""The kind cluster of this checkout: brought up, found well, repaired, replaced, deleted.

Plain kind does the work. Each checkout has a cluster, a Docker network and a kubeconfig of its own, so that two on one
machine share nothing (pod routes are announced by OSPF on that network). Limits: after a restart of the engine nodes may
have swapped addresses, which the node image made here does not survive: such a cluster is replaced; volumes stay.
Source: kind's configuration v1alpha4; https://kind.sigs.k8s.io.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness.cluster import api, egress, filesystems, found, limits, load, node_image, settle, tools, topology
from harness.cluster.engine import Engine, answering, ensure_engine
from harness.cluster.topology import Topology
from harness.errors import ClusterFailed, CommandFailed, NotReady
from harness.model.target import Target
from harness.support.checkout import Checkout
from harness.support.clock import wait_for
from harness.support.progress import Progress
from harness.support.shell import run, stream

_CREATE_S = 600
_DELETE_S = 180
_RETURN_S = 60  # a cluster whose engine or nodes just started
_ANSWER_S = 10


@dataclass(frozen=True)
class Status:
    """What there is of the cluster. ``problem`` is "" when it is up and well."""

    name: str
    topology: str
    image: str
    nodes: tuple[str, ...]
    running: tuple[str, ...]
    problem: str


def up(checkout: Checkout, topology_name: str, progress: Progress) -> Target:
    """The cluster of this checkout in the wanted topology, with every node ready and closed to the outside.

    A healthy one is left alone (seconds); stopped nodes are started; a half-built, different or dead one is replaced.
    The caller holds ``checkout.lock("cluster")``: two at a time would take each other's for half-built.

    :param topology_name: a file of ``deploy/kind`` without its suffix.
    :raises UsageError: no such topology.
    :raises ClusterFailed: engine, images or cluster cannot be brought up.
    """
    wanted = topology.load(checkout, topology_name)
    with progress.stage("cluster"):
        engine = ensure_engine(checkout, progress)
        image = node_image.ensure_node_image(engine, checkout, progress)
        if wanted.control_planes > 1:
            node_image.ensure_load_balancer(engine, checkout, progress)
        tools.ensure_kind(engine, checkout, progress)
        tools.ensure_kubectl(engine, checkout, image)
        if not _keep(engine, checkout, wanted, image, progress):
            _create(engine, checkout, wanted, image, progress)
        return _target(engine, checkout, wanted)


def down(checkout: Checkout, progress: Progress) -> None:
    """Delete this checkout's cluster with its network, kubeconfig and volumes, and nothing else.

    :raises ClusterFailed: there are containers of it that do not go, or there is one on record, but no engine answers and
        none can be started.
    """
    engine = ensure_engine(checkout, progress) if "name" in _recorded(checkout) else answering()
    if engine is None:
        progress.note("no container engine answers: there is nothing to delete")
        return
    with progress.stage("delete the cluster"):
        _delete(engine, checkout)
        filesystems.forget(_volumes(checkout))
        shutil.rmtree(_volumes(checkout).parent, ignore_errors=True)


def status(checkout: Checkout) -> Status:
    """What there is of the cluster; changes nothing, needs no cluster."""
    engine = answering()
    members = found.nodes(found.containers(engine, checkout.cluster_name)) if engine else []
    recorded = _recorded(checkout)
    running = tuple(c.name for c in members if c.running)
    problem = "there is none"
    if engine is None:
        problem = "no container engine answers"
    elif members:
        problem = "" if _healthy(checkout, members) else "its API server does not answer, or a node is not ready"
    image = members[0].image if members else ""
    return Status(checkout.cluster_name, recorded.get("name", ""), image, tuple(c.name for c in members), running, problem)


def current(checkout: Checkout, *, well: bool = True) -> Target | None:
    """The cluster as it is now when it is up and well, else None; changes nothing.

    :param well: false: it is enough that its API server answers. Who puts back what a fault did finds nodes cordoned or stopped.
    """
    engine = answering()
    recorded = _recorded(checkout)
    if engine is None or "name" not in recorded:
        return None
    members = found.nodes(found.containers(engine, checkout.cluster_name))
    if not members or not (_healthy(checkout, members) if well else connect(checkout).answers()):
        return None
    return _target(engine, checkout, topology.load(checkout, recorded["name"]))


def wake(checkout: Checkout, progress: Progress) -> None:
    """Start what has stopped of the cluster and let go on what is paused, its load balancer too, until the API server answers.

    Where this checkout has a cluster on record, that begins with the engine: after a machine's restart nothing runs.
    Nothing is replaced. Where there is no cluster, or it does not answer in time, nothing is said: :func:`current` shows it.

    :raises ClusterFailed: there is a cluster on record, but no engine answers and none can be started.
    """
    if "name" not in _recorded(checkout):
        return
    engine = ensure_engine(checkout, progress)
    there = found.containers(engine, checkout.cluster_name)
    if not there:
        return
    _start(engine, there, progress)
    with suppress(NotReady):
        wait_for(connect(checkout).answers, deadline_s=_RETURN_S, what="the API server")


def recorded_uid(checkout: Checkout) -> str:
    """UID of the cluster that this checkout made last and has not deleted; "" where there is none."""
    return _recorded(checkout).get("uid", "")


def load_images(engine: Engine, checkout: Checkout, refs: Iterable[str], progress: Progress) -> None:
    """Bring images to all workers: only what a node lacks, in one save, all nodes side by side.

    :raises ClusterFailed: there is no cluster, the engine lacks an image, or a node does not take it.
    """
    there = found.nodes(found.containers(engine, checkout.cluster_name))
    # Nothing of ours runs on a control plane (it is tainted), unless there is nothing else.
    members = [c.name for c in there if c.role == "worker"] or [c.name for c in there]
    if not members:
        raise ClusterFailed("there is no cluster to bring images to", where=checkout.cluster_name, todo="mailgale cluster up")
    load.load(engine, members, refs, progress)


def connect(checkout: Checkout) -> api.Api:
    """kubectl on this checkout's cluster.

    :raises ClusterFailed: no kubectl.
    """
    return api.Api(tools.kubectl_path(checkout), str(_kubeconfig(checkout)), f"kind-{checkout.cluster_name}")


def _keep(engine: Engine, checkout: Checkout, wanted: Topology, image: str, progress: Progress) -> bool:
    """Whether what there is can stay, after starting what had stopped."""
    name = checkout.cluster_name
    there = found.containers(engine, name)
    if not there:
        return False
    want = found.Wanted(wanted, image, name, str(_volumes(checkout)))
    reason = found.why_replace(there, want, _recorded(checkout)) or _revive(engine, checkout, there, progress)
    if reason:
        progress.note(f"replacing the cluster: {reason}")
        return False
    if not all(egress.in_force(engine, c.name) for c in found.nodes(there)):
        progress.note("setting the rules against leaving again")
        egress.apply(engine, checkout, [c.name for c in found.nodes(there)], (*wanted.pod_networks, *wanted.service_networks))
    return True


def _revive(engine: Engine, checkout: Checkout, there: Sequence[found.Container], progress: Progress) -> str:
    """Start stopped nodes and wait until all are ready; the reason why that failed, or ""."""
    members = found.nodes(there)
    _start(engine, there, progress)
    _export_kubeconfig(engine, checkout)
    progress.waiting("the API server and the nodes")
    try:
        wait_for(lambda: _healthy(checkout, members), deadline_s=_RETURN_S, what="the cluster to answer")
    except NotReady:
        return f"it did not become healthy in {_RETURN_S} s"
    return ""


def _start(engine: Engine, there: Sequence[found.Container], progress: Progress) -> None:
    for verb, names in (("start", [c.name for c in there if not c.running and not c.paused]), ("unpause", [c.name for c in there if c.paused])):
        if names:
            progress.note(f"{verb} {', '.join(names)}")
            engine.docker(verb, *names, timeout_s=120, check=False)


def _healthy(checkout: Checkout, members: Sequence[found.Container]) -> bool:
    """Whether the API answers and every container is a ready, schedulable node of it."""
    cluster = connect(checkout)
    if not cluster.answers():
        return False
    try:
        items = cluster.get("nodes")["items"]
    except (CommandFailed, json.JSONDecodeError):
        return False
    ready = {i["metadata"]["name"] for i in items if api.is_ready(i)}
    return {c.name for c in members} == ready


def _create(engine: Engine, checkout: Checkout, wanted: Topology, image: str, progress: Progress) -> None:
    _delete(engine, checkout)
    _clear_network(engine, checkout.cluster_name, progress)
    limits.raise_inotify(progress)
    volumes = _make_volumes(checkout)
    config = wanted.render(checkout.cluster_name, volumes, default_cni=not node_image.is_built_here(image))
    with progress.stage(f"kind create cluster ({wanted.name})"), tempfile.TemporaryDirectory(prefix="mailgale-") as folder:
        file = Path(folder) / "cluster.yaml"
        file.write_text(config)
        _kind_create(engine, checkout, file, image, progress)
    cluster = connect(checkout)
    with progress.stage("nodes, cluster DNS and the rules against leaving"):
        members = [c.name for c in found.nodes(found.containers(engine, checkout.cluster_name))]
        settle.cluster_dns(cluster)
        settle.nodes_ready(cluster, len(members), progress)
        egress.apply(engine, checkout, members, (*wanted.pod_networks, *wanted.service_networks))
        settle.system_ready(cluster, progress)
    _record(checkout, {"name": wanted.name, "topology": wanted.digest, "uid": cluster.uid()})


def _kind_create(engine: Engine, checkout: Checkout, config: Path, image: str, progress: Progress) -> None:
    kubeconfig = _kubeconfig(checkout)
    kubeconfig.parent.mkdir(parents=True, exist_ok=True)
    words: list[str | Path] = [tools.kind_path(checkout), "create", "cluster", "--config", config, "--image", image, "--kubeconfig", kubeconfig]
    try:
        stream(words, timeout_s=_CREATE_S, on_line=lambda line: progress.waiting(line.strip()), env=_kind_env(engine, checkout))
    except CommandFailed as error:
        hint = "this machine lacks a capability; see 'mailgale doctor'" if "unable to apply caps" in error.what else ""
        raise ClusterFailed(f"kind does not create the cluster: {error.what}", where=checkout.cluster_name, todo=hint) from error


def _delete(engine: Engine, checkout: Checkout) -> None:
    """Every container of the cluster, whatever its state; kind itself is not needed for that."""
    name = checkout.cluster_name
    for file in (_record_file(checkout), _kubeconfig(checkout)):
        file.unlink(missing_ok=True)
    names = [c.name for c in found.containers(engine, name)]
    if names:
        engine.docker("rm", "-f", "-v", *names, timeout_s=_DELETE_S, check=False)
    left = found.containers(engine, name)
    if left:
        raise ClusterFailed(f"containers of the old cluster do not go: {', '.join(c.name for c in left)}", todo="docker rm -f them")
    _remove_network(engine, name)


def _remove_network(engine: Engine, name: str) -> None:
    engine.docker("network", "rm", name, check=False)


def _clear_network(engine: Engine, name: str, progress: Progress) -> None:
    """A network of our name that is still there has somebody in it, or is broken: say so before kind stumbles.

    :raises ClusterFailed: containers that are not ours are attached to it.
    """
    seen = engine.docker("network", "inspect", name, check=False)
    if seen.code != 0:
        return
    guests = [c["Name"] for n in json.loads(seen.stdout) for c in (n.get("Containers") or {}).values()]
    if guests:
        raise ClusterFailed(f"other containers are in the network {name}: {', '.join(guests)}", todo="disconnect them and run again")
    progress.note(f"removing the left-over network {name}")
    for network in json.loads(seen.stdout):
        engine.docker("network", "rm", network["Id"])


def _kind_env(engine: Engine, checkout: Checkout) -> Mapping[str, str]:
    return {**engine.environment, "KIND_EXPERIMENTAL_DOCKER_NETWORK": checkout.cluster_name, "KIND_EXPERIMENTAL_PROVIDER": "docker"}


def _export_kubeconfig(engine: Engine, checkout: Checkout) -> None:
    words: list[str | Path] = [tools.kind_path(checkout), "export", "kubeconfig", "--name", checkout.cluster_name, "--kubeconfig", _kubeconfig(checkout)]
    run(words, timeout_s=60, check=False, env=_kind_env(engine, checkout))


def _target(engine: Engine, checkout: Checkout, wanted: Topology) -> Target:
    containers = found.nodes(found.containers(engine, checkout.cluster_name))
    return settle.target(engine, connect(checkout), checkout, wanted, containers, str(_volumes(checkout)))


def _kubeconfig(checkout: Checkout) -> Path:
    return checkout.state / "kubeconfig"


def _volumes(checkout: Checkout) -> Path:
    return Path("/var/lib") / checkout.cluster_name / "volumes"


def _make_volumes(checkout: Checkout) -> Path:
    path = _volumes(checkout)
    if os.access("/var/lib", os.W_OK):
        path.mkdir(parents=True, exist_ok=True)
    return path  # otherwise the engine makes it, as root, when it mounts it


def _record_file(checkout: Checkout) -> Path:
    return checkout.state / "cluster.json"


def _record(checkout: Checkout, facts: Mapping[str, str]) -> None:
    _record_file(checkout).write_text(json.dumps(facts))


def _recorded(checkout: Checkout) -> dict[str, str]:
    try:
        return dict(json.loads(_record_file(checkout).read_text()))
    except (OSError, ValueError):
        return {}
