"""Histories of real runs, kept small and judged again by the tests: what the judge said of a run that it may not unsay.

    python -m tests.histories reports/runs/20261125T152213Z-power-loss-53a7 "a power cut, synced and not"

keeps one: ``<run id>.tar.xz`` with the records that the judge reads, and ``<run id>.json`` with what it said.
"""
