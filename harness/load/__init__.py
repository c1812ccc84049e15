"""The load engine, an own process on uvloop without gevent, and the Locust side that steers it.

    spec = LoadSpec(...)                         # harness.load.spec: what to send, to where, from whom
    process = runner.start(spec, arm.path)       # harness.load.runner: Locust, which starts the engine
    process.wait(deadline_s=300)

The engine alone: ``python -m harness.load SPEC.json``. It writes ``load-<n>.log`` and reports on standard output, one JSON
object a line, a few times a second.

    spec, params      what the engine is told
    arrivals          due times: constant, Poisson, MMPP, diurnal, step, replay
    messages          seeded mails with a trace header and a canonical hash
    ledger            the rows of the log, one write(2) per turn of the loop, before that turn's bytes
    mta               one simulated MTA: queue, connections, back-off
    elastic, steady, submitters, users, watchers    the populations
    engine            phases and statistics
    locust_side       locust's half: starts the engine, merges its statistics
    runner            the conductor's handle

Distribution: every engine has a number ``n``, writes its own ``load-<n>.log``, numbers its mails from ``(n - 1) << 40``
and takes each ``engines``-th sender and user, so several engines need nothing of one another.
"""
