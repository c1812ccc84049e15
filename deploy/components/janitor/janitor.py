"""Ends the faults of a run whose host is gone: undo rights only, no rights to break anything.

Before each act the faults' process writes what must be undone into the ConfigMap ``mailgale-undo`` (data, never code). The run's
conductor renews the Lease ``mailgale-run``. Once the lease is not renewed any more, is another run's or is gone, and stays so for as long
as a lease lasts, the pending entries are undone here, last in first, and marked; each is verified by reading it back and tried again until
it holds. Time counts only while the API server answers, so that a conductor may come back first. What needs the host (a node's container,
a process on a node) is marked as such and left to ``mailgale recover``.
"""

from __future__ import annotations

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
LEASE = "/apis/coordination.k8s.io/v1/namespaces/default/leases/mailgale-run"
LOOK_S, CALL_S, RETRY_S = 2.0, 5.0, 10.0
#: Touched while the loop turns, and while the API server answers; the probes look at their age.
ALIVE, READY = Path("/run/janitor/alive"), Path("/run/janitor/ready")
KINDS = {"Deployment": "deployments", "StatefulSet": "statefulsets", "DaemonSet": "daemonsets"}


class Failed(Exception):
    """The API server said no (``status``), or nothing (0)."""

    def __init__(self, what: str, status: int = 0) -> None:
        super().__init__(what)
        self.status = status


class Api:
    """The API server, by the pod's own token (read anew each time: it is rotated)."""

    def __init__(self, server: str = "", account: Path = ACCOUNT) -> None:
        host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        self.server = server or f"https://{f'[{host}]' if ':' in host else host}:{port}"
        self.account = account
        self.tls = None if self.server.startswith("http:") else ssl.create_default_context(cafile=str(account / "ca.crt"))

    def __call__(self, method: str, path: str, body: object = None) -> dict:
        """One request; its JSON answer. PATCH is a merge patch (RFC 7396)."""
        headers = {"Authorization": f"Bearer {(self.account / 'token').read_text().strip()}", "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/merge-patch+json"
        data = None if body is None else json.dumps(body).encode()
        try:
            request = urllib.request.Request(self.server + path, data, headers, method=method)
            with urllib.request.urlopen(request, timeout=CALL_S, context=self.tls) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise Failed(f"{method} {path}: {error.code} {error.read()[:200]!r}", error.code) from error
        except (OSError, ValueError) as error:
            raise Failed(f"{method} {path}: {error}") from error


class Watch:
    """Whether the holder of the entries is dead, by this pod's own clock."""

    def __init__(self) -> None:
        self.seen, self.since = None, 0.0

    def reset(self) -> None:
        """The API server did not answer: what was seen before says nothing."""
        self.seen = None

    def dead(self, lease: dict | None, holder: str, now: float) -> bool:
        """Whether ``lease`` (None = there is none) has shown no sign of life of ``holder`` for as long as a lease lasts."""
        spec = (lease or {}).get("spec") or {}
        sign = spec.get("renewTime", "") if holder and spec.get("holderIdentity") == holder else "not the holder's"
        if sign != self.seen:
            self.seen, self.since = sign, now
        return now - self.since > float(spec.get("leaseDurationSeconds") or 15)


class Janitor:
    """One namespace's janitor."""

    def __init__(self, api: Api, namespace: str, clock=time.monotonic) -> None:
        self.api, self.namespace, self.clock, self.watch = api, namespace, clock, Watch()
        self.record = f"/api/v1/namespaces/{namespace}/configmaps/mailgale-undo"
        self.retry: dict[str, float] = {}

    def look(self) -> None:
        """One look. Raises Failed when the API server does not let it look."""
        data = self.api("GET", self.record).get("data") or {}
        pending = {k: v for k, v in ((k, json.loads(v)) for k, v in data.items() if k.startswith("entry-")) if not v.get("state")}
        if not pending:
            self.watch.reset()
            return
        if not self.watch.dead(self.lease(), data.get("holder", ""), self.clock()):
            return
        for key in sorted(pending, reverse=True):
            if self.clock() >= self.retry.get(key, 0.0):
                self.end(key, pending[key])

    def lease(self) -> dict | None:
        """The run's lease."""
        try:
            return self.api("GET", LEASE)
        except Failed as error:
            if error.status == 404:
                return None
            raise

    def end(self, key: str, value: dict) -> None:
        """Undo one entry and mark it; one that does not take is tried again later."""
        entry = value["entry"]
        act = {"scale": self.scale, "uncordon": self.uncordon, "whole": self.whole}.get(entry.get("op"))
        try:
            left = act(entry) if act else ""
        except Failed as error:
            left = str(error)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            left, act = f"does not read: {error!r}", None  # the others must not wait behind it for ever
        if left and act:
            self.retry[key] = self.clock() + RETRY_S
            say("not yet", entry=entry, left=left)
            return
        state = "undone by the janitor" if act else "needs the host"
        self.api("PATCH", self.record, {"data": {key: json.dumps({**value, "state": state})}})
        say(state, entry=entry, left=left)

    def scale(self, entry: dict) -> str:
        """Restore the number of replicas."""
        path = self.path(entry) + "/scale"
        self.api("PATCH", path, {"spec": {"replicas": int(entry["replicas"])}})
        now = self.api("GET", path)["spec"].get("replicas", 0)
        return "" if now == int(entry["replicas"]) else f"asks for {now}"

    def uncordon(self, entry: dict) -> str:
        """Make a node schedulable again."""
        path = f"/api/v1/nodes/{entry['node']}"
        if self.api("GET", path)["spec"].get("unschedulable"):
            self.api("PATCH", path, {"spec": {"unschedulable": None}})
        return "still cordoned" if self.api("GET", path)["spec"].get("unschedulable") else ""

    def whole(self, entry: dict) -> str:
        """A killed pod comes back by itself; here it is only waited for."""
        found = self.api("GET", self.path(entry))
        status = found.get("status", {})
        wanted, ready = found["spec"].get("replicas", 1), status.get("readyReplicas", 0)
        if "desiredNumberScheduled" in status:
            wanted, ready = status["desiredNumberScheduled"], status.get("numberReady", 0)
        return "" if wanted == ready else f"{ready} of {wanted} pods are ready"

    def path(self, entry: dict) -> str:
        """Where the entry's workload is."""
        kind, _, name = entry["workload"].partition("/")
        return f"/apis/apps/v1/namespaces/{self.namespace}/{KINDS[kind]}/{name}"


def say(what: str, **more: object) -> None:
    """A line for the log."""
    print(json.dumps({"what": what, **more}), flush=True)


def main() -> None:
    """Look every two seconds for ever; the probes see a loop that hangs."""
    janitor = Janitor(Api(), os.environ["POD_NAMESPACE"])
    said = ""
    while True:
        ALIVE.touch()
        problem = ""
        try:
            janitor.look()
            READY.touch()
        except (Failed, KeyError, ValueError) as error:
            janitor.watch.reset()
            problem = f"{type(error).__name__}: {error}"
        if problem != said:
            say("cannot look" if problem else "looking again", why=problem)
            said = problem
        time.sleep(LOOK_S)


if __name__ == "__main__":
    sys.exit(main())
