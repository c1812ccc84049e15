"""Before a run: every pod of the lab's DNS answers as the lab must, asked on the wire through the API server."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from harness.dns.probe import Expectation, differences, expectations
from harness.errors import GuardRefused, NotReady
from harness.stack.deployed import Stack

SERVICE = "lab-dns"
PORT = 53


def prove_names(stack: Stack, wanted: Sequence[Expectation] = ()) -> list[str]:
    """Ask each DNS pod of ``stack``; the pods that were asked.

    :param wanted: what must be answered (default: the lab's own names, search domains and ignorance of the real world).
    :raises NotReady: there is no DNS pod, or one does not answer.
    :raises GuardRefused: one answers otherwise; a name that leads out is a way out for mail.
    """
    slices = stack.cluster.endpointslices(stack.namespace, SERVICE)
    pods = sorted({e.pod for s in slices for e in s.endpoints if e.ready and e.pod})
    if not pods:
        raise NotReady("the lab's DNS has no ready pod", where=stack.namespace)
    service = "mailbox-proxy" if any(w.endswith("/mailbox-proxy") for w in stack.workloads) else SERVICE
    questions = wanted or expectations(stack.namespace, cluster_domain=stack.cluster_domain, service=service)
    for pod in pods:
        wrong = differences(partial(stack.cluster.port_forward, stack.namespace, pod, PORT), questions)
        if wrong:
            raise GuardRefused(f"the lab's DNS does not answer as it must: {'; '.join(wrong)}", where=pod)
    return pods
