"""Suites that need no job; each module has `ARMS`, the baseline first, and `measure`, which yields `Measured`."""
