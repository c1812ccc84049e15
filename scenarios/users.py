"""Reading users, closed loop: IMAP sessions with think times, POP3 polls, IDLE connections.

| parameter | is |
|---|---|
| ``imap_users``, ``pop_users`` | readers |
| ``think_s`` | mean pause between their steps |
| ``flag_share`` | share of the mails read over IMAP that are marked ``\\Flagged`` and ``\\Seen``; the marks have to stay |
| ``delete_share``, ``move_share`` | shares of the mails read that are deleted (POP3: DELE), or moved to ``Archive`` (IMAP MOVE); each reader then needs an account of its own |
| ``append_share`` | share of the looks of IMAP users after which they put a mail of their own into ``Sent`` |
| ``idle_users`` | connections that only idle |
| ``burst_max_s`` | how long |

By hand: ``locust -f scenarios/users.py --headless --imap 127.0.0.1:143 --pop3 127.0.0.1:110 --user-file users.csv``
"""

from harness.load.locust_side import Scenario, given


class Users(Scenario):
    """IMAP and POP3 readers."""

    scenario = "users"
    defaults = given(imap_users=10, pop_users=5, burst_max_s=30)
