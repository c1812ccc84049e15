"""The run directory: append-only logs in CRC'd blocks, seal, load, columnar queries."""
