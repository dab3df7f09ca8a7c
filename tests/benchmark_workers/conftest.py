"""What runs in the processes that are measured, and so needs torch; the harness's tests are in tests/benchmarks."""

from __future__ import annotations

import sys
from pathlib import Path

# The benchmarks are a program of the repository, not part of the installed package; last, so that a wheel that is
# under test stays the one that is imported.
sys.path.append(str(Path(__file__).resolve().parents[2]))
