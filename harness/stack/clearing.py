"""Whatever keeps something from being taken down is told as what it is: left behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from harness.errors import CleanupIncomplete, MailgaleError


@contextmanager
def taking_down(namespace: str) -> Iterator[None]:
    """Whatever keeps a stack from being taken down ends as CleanupIncomplete that names it: a dead API server, a second Ctrl-C.

    :raises CleanupIncomplete: it may still be there.
    """
    try:
        yield
    except CleanupIncomplete:
        raise
    except (MailgaleError, OSError) as error:
        raise CleanupIncomplete(f"not taken down: {error}", where=f"namespace {namespace}", todo="mailgale recover") from error
    except KeyboardInterrupt:
        raise CleanupIncomplete("interrupted before it was taken down", where=f"namespace {namespace}", todo="mailgale recover") from None
