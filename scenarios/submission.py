"""Authenticated submission at a rate, open loop: users log in and send to each other and to the outside; any 4xx is a failure.

| parameter | is |
|---|---|
| ``submit_rate_per_s`` | mails due per second |
| ``submit_internet_share`` | of them to the outside (0 … 1) |
| ``submit_connections`` | connections of one user at most |
| ``smtputf8_share`` | internationalised mails (RFC 6531); where the server does not offer SMTPUTF8 they are refused on this side, for good |
| ``dsn_share``, ``dsn_notify``, ``dsn_ret`` | mails that ask for delivery status notifications (RFC 3461), where they are offered |
| ``burst_max_s`` | how long |

By hand: ``locust -f scenarios/submission.py --headless --submission 127.0.0.1:587 --mail-tls starttls --user-file users.csv``
"""

from harness.load.locust_side import Scenario, given


class Submission(Scenario):
    """Users who submit."""

    scenario = "submission"
    defaults = given(submit_rate_per_s=5, burst_max_s=30)
