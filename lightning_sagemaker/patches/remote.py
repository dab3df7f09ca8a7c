"""``@remote`` and ``@step`` of SDK v2 and v3, whose entry point catches the function's errors.

So no exception ends the process, and the reason that the entry would write is what this rank saw: perhaps only that a
connection to another one is lost.
"""

from __future__ import annotations

import functools
import os
import sys
from contextlib import suppress
from typing import Any

from lightning_sagemaker.distributed.failure_file import failure_report, report
from lightning_sagemaker.job import is_training_job
from lightning_sagemaker.patches import first_time


def patch_errors(module: Any) -> None:
    """Make the failure reason the first failure of any rank, with host and rank, as for other exceptions."""
    if not is_training_job(os.environ) or not first_time(module):
        return
    write = module._write_failure_reason_file

    @functools.wraps(write)
    def _write_failure_reason_file(failure_msg: str) -> None:
        error = sys.exc_info()[1]  # the entry is in its `except`
        if isinstance(error, Exception):
            with suppress(Exception):
                report(failure_report(error, courtesy=0.0))  # torchrun ends this process in a moment
        write(failure_msg)  # where there is no reason yet

    module._write_failure_reason_file = _write_failure_reason_file
