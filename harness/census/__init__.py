"""The final read: what is really in queues, mailboxes, quarantine and sinks after healing.

It shares no code with the generator (``harness.load``, ``harness.mail``): other libraries, another parser, another
implementation of the canonical form, so that one mistake cannot hide on both sides. It runs as a process of its own,
``python -m harness.census SPEC.json``, and writes ``census.log`` with the events ``scope`` and ``copy`` (DESIGN.md).
"""

from harness.census.quiet import Quiet, wait_for_quiet
from harness.census.spec import CensusSpec, Server
from harness.census.take import take

__all__ = ["CensusSpec", "Quiet", "Server", "take", "wait_for_quiet"]
