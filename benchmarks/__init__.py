"""The benchmark program, run as ``python -m benchmarks`` from the repository's root; no part of the package."""
