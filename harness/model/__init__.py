"""Frozen dataclasses and enums that every other package speaks in. Standard library only, no I/O."""
