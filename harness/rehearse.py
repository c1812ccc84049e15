"""The conductor: from a plan and a target to a sealed run directory. It reads like the README.

Each scope is a context manager, so that faults are undone, evidence is collected and the run is sealed on every way out,
Ctrl-C included. Judging and reporting come after it and need no cluster.
"""

from __future__ import annotations
