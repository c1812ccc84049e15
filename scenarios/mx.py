"""Inbound mail at a rate, open loop: ordinary outside senders, a connection for each mail, 4xx retried as MTAs do.

| parameter | is |
|---|---|
| ``steady_rate_per_s`` | mails due per second |
| ``steady_arrivals``, ``arrivals`` | ``poisson`` (default), ``constant``, ``mmpp``, ``diurnal``, ``step``, ``replay`` and its options |
| ``steady_senders`` | outside senders, each with an own client address |
| ``size_median_bytes`` | median size |
| ``smtputf8_share`` | internationalised mails (RFC 6531); where the server does not offer SMTPUTF8 they are refused on this side, for good |
| ``dsn_share``, ``dsn_notify``, ``dsn_ret`` | mails that ask for delivery status notifications (RFC 3461), where they are offered |
| ``burst_max_s`` | how long |

By hand: ``locust -f scenarios/mx.py --headless --host smtp://127.0.0.1:2525 --set steady_rate_per_s=50 --set burst_max_s=10``
"""

from harness.load.locust_side import Scenario, given


class Mx(Scenario):
    """Ordinary outside senders."""

    scenario = "mx"
    defaults = given(steady_rate_per_s=10, burst_max_s=30)
