"""``@remote`` and ``@step`` of SDK v2 and v3, whose entry point catches the function's errors.

So no exception ends the process, and the reason that the entry would write is what this rank saw: perhaps only that a
connection to another one is lost.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

from lightning_sagemaker.distributed.failure_file import failure_report, report
from lightning_sagemaker.patches import wrap


def patch_errors(module: Any) -> None:
    """Make the failure reason the first failure of any rank, with host and rank, as for other exceptions."""

    @wrap(module, "_write_failure_reason_file")
    def _write_failure_reason_file(write: Any, failure_msg: str) -> None:
        error = sys.exc_info()[1]  # the entry is in its `except`
        if isinstance(error, Exception):
            with suppress(Exception):
                report(failure_report(error, courtesy=0.0))  # torchrun ends this process in a moment
        write(failure_msg)  # where there is no reason yet
