"""What the cluster did while the load ran: a process of its own, ``python -m harness.observe SPEC.json``.

It writes ``observe.log`` (queues, pods, endpoints, throttling, host, edge) and follows the log of every container of every
pod from its creation. It ends on SIGTERM or SIGINT, at the time in its spec, or when its parent is gone.
"""
