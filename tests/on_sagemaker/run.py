"""The script of the job: every process runs pytest over this folder, with the others.

Rank 0 reports in the job's log. Each rank writes `output/data/assumptions-RANK.xml` too, which SageMaker uploads. What
the script is given goes on to pytest.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import os
import sys
from pathlib import Path

import pytest
from ranks import find_job, place

from lightning_sagemaker.job import base_dir

LONGEST = 1500  # seconds; it takes a few minutes unless much of it hangs, and instances cost money while it does


def main() -> int:
    """Run the tests; pytest's exit code."""
    faulthandler.dump_traceback_later(LONGEST, exit=True, file=os.dup(2))  # pytest captures 2 itself
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # the image may have plugins that reorder or distribute
    rank, _ = place(find_job())
    report = base_dir(os.environ) / "output" / "data" / f"assumptions-{rank}.xml"
    folder = Path(__file__).resolve().parent
    # Without colours, which pytest chooses under mpirun: it gives rank 0 a terminal.
    given = [str(folder), f"--junitxml={report}", "-v", "-rs", "--tb=short", "--color=no", *sys.argv[1:]]
    if rank == 0:
        return int(pytest.main(given))
    # What fails, fails on all ranks: what one sees is told to all. Of the others only another end is worth a word.
    with contextlib.redirect_stdout(io.StringIO()) as text:
        code = pytest.main(given)
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        sys.stderr.write(text.getvalue())
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
