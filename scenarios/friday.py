"""Friday burst: outside MTAs push their backlogs as fast as they are let, beside ordinary mail and reading users (T14, T15).

Phases: warm-up (ordinary mail and users), burst (the backlogs, at most ``burst_max_s``), tail (ordinary mail and users).

| parameter | is |
|---|---|
| ``elastic_senders`` | outside MTAs, each with an own client address |
| ``backlog_per_sender``, or ``backlog_total`` | mails they hold when the burst begins |
| ``connections_per_sender`` | connections an MTA opens at most |
| ``reuse``, ``mails_per_connection`` | mails sent on one connection |
| ``ahead`` | the next envelope goes out behind the final dot of the mail before |
| ``min_backoff_s``, ``max_backoff_s`` | wait after a 4xx, doubling; divided by the time scale |
| ``size_median_bytes`` | median size; log-normal with a Pareto tail up to ``size_max_bytes`` |
| ``recipients_max`` | recipients of a mail |
| ``steady_rate_per_s`` | ordinary mail to the probe users, open loop, Poisson |
| ``imap_users``, ``pop_users``, ``think_s`` | reading users and their mean pause |
| ``flag_share`` | share of the mails read over IMAP that are marked; the marks have to stay |
| ``delete_share``, ``move_share`` | shares of the mails read that are deleted (POP3: DELE), or moved to ``Archive`` (IMAP MOVE); each reader then needs an account of its own |
| ``append_share`` | share of the looks of IMAP users after which they put a mail of their own into ``Sent`` |
| ``watchers`` | IDLE connections on the first probe mailboxes: they measure delivery |
| ``gtube_share``, ``eicar_share`` | planted spam and viruses |
| ``smtputf8_share`` | internationalised mails (RFC 6531); where the server does not offer SMTPUTF8 they are refused on this side, for good |
| ``dsn_share``, ``dsn_notify``, ``dsn_ret`` | mails that ask for delivery status notifications (RFC 3461), where they are offered |
| ``warmup_s``, ``burst_max_s``, ``tail_s`` | lengths of the phases |
| ``watch_max_s`` | after the tail the watchers wait so long for ordinary mail that is still on its way |

By hand: ``locust -f scenarios/friday.py --headless --host smtp://127.0.0.1:2525 --set backlog_per_sender=20 --set watchers=0``
"""

from harness.load.locust_side import Scenario, given


class Friday(Scenario):
    """The elastic outside, ordinary mail and readers."""

    scenario = "friday"
    defaults = given(
        elastic_senders=20, backlog_per_sender=90, connections_per_sender=2, mails_per_connection=20,
        size_median_bytes=4000, steady_rate_per_s=2, watchers=8, warmup_s=8, burst_max_s=150, tail_s=8,
    )
