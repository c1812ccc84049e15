"""Mutation testing of what decides: judge, checks, guards, undo. ``make mutation``, or

    python -m tests.mutation [--sample 120] [--seed 1] [--cpu-minutes 12] [--only harness/chaos/undo.py] [--keep build/mutation] [--list]

A mutant is one change in the syntax tree or in a piece of SQL; it is killed when a test of its module (``plan.py``) fails. Each mutant is
tried in a process of its own that is forked when the libraries are loaded, and takes its module from memory: no file of the tree changes.
Printed: killed of tried, with the survivors by file and line, which are either a gap in the tests or no change in what is promised.
Limits: one change at a time; a sample, drawn by the seed, unless ``--sample 0``.
"""
