"""Look-ups on a cluster whose nodes are not on this machine: in a pod of our own, on the node of the pod that is asked about.

The pod is made for one command and removed with it. It has the network of an ordinary pod of the same namespace and node, and the resolv.conf of the pod
that is asked about, so a look-up costs there what it costs in that pod; what other processes of that pod ask is not seen. It captures with the modules of
this checkout, handed over as a zip, and runs the image's glibc through Python; musl's and Go's programs are this machine's, so the node needs its
architecture. Sources: pods/exec of the Kubernetes API, packet(7).
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.dns.count import LOOKUP_S, UNSET, Case, Place, ResolverConfig, Seen
from harness.dns.decode import decode_file
from harness.dns.inpod import PARTS
from harness.dns.libcs import Program
from harness.errors import CommandFailed, NotReady, NotSupported, UsageError
from harness.kube.objects import Pod
from harness.stack import probe
from harness.stack.deployed import Stack
from harness.support.checkout import Checkout
from harness.support.progress import Progress
from harness.support.shell import Completed
from harness.support.sources import zipped

_ZIP = "/tmp/mailgale.zip"
_GRACE_S = 20.0
_RUN = f"import sys; sys.path.insert(0, {_ZIP!r}); from harness.dns.inpod import main; sys.exit(main(sys.argv[1]))"
_TAKE = "import os, sys; open(sys.argv[1], 'wb').write(sys.stdin.buffer.read(int(sys.argv[2]))); os.chmod(sys.argv[1], 0o755)"


@contextmanager
def remote_place(stack: Stack, pod: Pod, checkout: Checkout, progress: Progress) -> Iterator[Place]:
    """A place on ``pod``'s node, with its resolv.conf.

    :raises UsageError: the pod is on its node's network: its queries are not its own there.
    :raises NotReady: the pod has no container to be asked, or its resolv.conf names no server.
    :raises NotSupported: the pod that asks cannot be started.
    :raises StackFailed: it does not become ready within a minute.
    """
    if pod.raw.get("spec", {}).get("hostNetwork"):
        raise UsageError("the pod is on its node's network (hostNetwork), where its queries cannot be told from others'", where=pod.name)
    config = _resolv_conf(stack, pod)
    name = f"dns-count-{secrets.token_hex(3)}"
    with probe.pods(stack, name, [pod.node], {}, progress, capabilities=("NET_RAW",)):
        remote = _Remote(stack, name, pod.node)
        remote.put(_ZIP, zipped(checkout.root, PARTS))
        yield Place(Path(), config, f"a pod beside {pod.namespace}/{pod.name}, on {pod.node} with its resolv.conf", ask=remote.ask, bring=remote.bring)


def _resolv_conf(stack: Stack, pod: Pod) -> ResolverConfig:
    running = next((c.name for c in pod.containers if c.state == "running" and not c.init), "")
    if not running:
        raise NotReady("the pod has no running container", where=pod.name)
    done = stack.cluster.exec(pod.namespace, pod.name, running, ["cat", "/etc/resolv.conf"])
    config = ResolverConfig.parse(done.stdout.decode(errors="replace"))
    if not config.nameservers:
        raise NotReady("its resolv.conf names no server", where=pod.name)
    return config


@dataclass(frozen=True)
class _Remote:
    """The pod that asks."""

    stack: Stack
    name: str
    node: str

    def put(self, path: str, data: bytes) -> None:
        """A file of this machine's into the pod."""
        self._python(_TAKE, path, str(len(data)), stdin=data)

    def bring(self, program: Program) -> Program:
        """``program`` as the pod has it: its own Python and glibc, or this machine's file, handed over."""
        if program.libc == "glibc":
            return replace(program, version=str(self._told({"files": {}})["libc"]), argv=("python3", *program.argv[1:]))
        path = f"/tmp/lookup-{program.libc}"
        self.put(path, Path(program.argv[0]).read_bytes())
        return replace(program, argv=(path,))

    def ask(self, program: Program, case: Case, files: Mapping[str, str], scratch: Path) -> Seen:
        """One look-up there; its capture is put into ``scratch``."""
        order = {"files": files, "argv": program.command(case.family, case.name), "unset": UNSET, "timeout_s": LOOKUP_S}
        told = self._told(order)
        path = scratch / "lookup.pcap"
        path.write_bytes(base64.b64decode(told["pcap"]))
        seen = decode_file(path)
        quality = replace(seen.quality, **{name: told[name] for name in ("packets", "drops", "cut", "broken")})
        return Completed((), int(told["code"]), str(told["stdout"]), str(told["stderr"])), replace(seen, quality=quality)

    def _told(self, order: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._python(_RUN, json.dumps(order)))
        return found

    def _python(self, code: str, *words: str, stdin: bytes | None = None) -> bytes:
        """Standard output of Python in the pod."""
        done = self.stack.gateway().exec(
            self.stack.namespace, probe.pod_name(self.name, self.node), self.name, ["python3", "-I", "-c", code, *words], timeout_s=LOOKUP_S + _GRACE_S, stdin=stdin,
        )
        if done.code == 0:
            return done.stdout
        said = done.stderr.decode(errors="replace").strip()[-300:]
        if "cannot capture" in said or "CAP_NET_RAW" in said:
            raise NotSupported(f"pods of {self.stack.target.name} may not capture: {said}")
        raise CommandFailed(f"Python ended with {done.code} in the pod that asks: {said}", where=f"{self.name} on {self.node}")
