"""Any mail server, by host and port alone: no cluster, no faults, no queues to list.

    target = target_of({"smtp": ("127.0.0.1", 2525), "imap": ("127.0.0.1", 143)})

Limits: what cannot be asked over the mail protocols is in ``unsupported``; the report says so and the checks judge without it.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.model.target import Target

KIND = "endpoints"
UNSUPPORTED: Mapping[str, str] = {
    "faults": "a server that is known by host and port alone cannot be broken from here",
    "queues": "its queues cannot be listed; acknowledged mail that is in no mailbox after the settling time counts as lost",
}
NO_READERS = "no IMAP or POP3 server was named, so what became of accepted mail is not known"


def target_of(endpoints: Mapping[str, tuple[str, int]]) -> Target:
    """The Target of kind ``endpoints`` for ``endpoints``: service → (host, port)."""
    name = ", ".join(f"{service} {_shown(host)}:{port}" for service, (host, port) in endpoints.items())
    lacking = dict(UNSUPPORTED)
    if not {"imap", "pop3"} & set(endpoints):
        lacking["readers"] = NO_READERS
    return Target(KIND, name, "", "", "", (), (), (), (), unsupported=lacking)


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
