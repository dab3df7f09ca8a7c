"""The script of the job: every process runs pytest over this folder, with the others.

Rank 0 reports in the job's log. Each rank writes `output/data/assumptions-RANK.xml` too, which SageMaker uploads. What
the script is given goes on to pytest.
"""

from __future__ import annotations

import faulthandler
import os
import sys
from pathlib import Path

import pytest
from ranks import find_job, place

from lightning_sagemaker.job import base_dir

LONGEST = 1500  # seconds; it takes a few minutes unless much of it hangs, and instances cost money while it does


def main() -> int:
    """Run the tests; pytest's exit code."""
    faulthandler.dump_traceback_later(LONGEST, exit=True)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # the image may have plugins that reorder or distribute
    rank, _ = place(find_job())
    report = base_dir(os.environ) / "output" / "data" / f"assumptions-{rank}.xml"
    # What fails, fails on all ranks: what one saw is told to all. Of the others a line is enough.
    told = ("-v", "-rs", "--tb=short") if rank == 0 else ("-qq", "--tb=line")
    folder = Path(__file__).resolve().parent
    return int(pytest.main([str(folder), f"--junitxml={report}", *told, *sys.argv[1:]]))


if __name__ == "__main__":
    sys.exit(main())
