"""The final read: what is really in queues, mailboxes, quarantine and sinks after healing.

It shares no code with the generator (``harness.load``, ``harness.mail``): other libraries, another parser, another
implementation of the canonical form, so that one mistake cannot hide on both sides. It runs as a process of its own,
``python -m harness.census SPEC.json``, and writes ``census.log`` with the events ``scope`` and ``copy`` (DESIGN.md).
Nothing is imported here: aioimaplib (GPL-3.0-only) is loaded by that process alone.
"""
