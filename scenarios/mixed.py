"""A working day: ordinary inbound mail, authenticated submission, IMAP and POP3 users, delivery measured by IDLE watchers.

Parameters: those of ``mx``, ``submission`` and ``users``, and ``watchers``.

By hand: ``locust -f scenarios/mixed.py --headless --host smtp://127.0.0.1:25 --submission 127.0.0.1:587 --imap 127.0.0.1:143 --pop3 127.0.0.1:110``
"""

from harness.load.locust_side import Scenario, given


class Mixed(Scenario):
    """Senders, submitters and readers at once."""

    scenario = "mixed"
    defaults = given(
        steady_rate_per_s=5, submit_rate_per_s=2, imap_users=10, pop_users=5, watchers=8, warmup_s=5, burst_max_s=60,
    )
