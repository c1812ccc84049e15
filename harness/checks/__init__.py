"""One module for every property that an arm must hold: its manual page, its LIMITS, and a pure ``check(arm, limits)``."""
