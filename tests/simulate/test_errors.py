"""What is shown of the errors of a job."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lightning_sagemaker.simulate.failures import error_text

from .helpers import run_cli

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MODULE = "import os, sys, time\nrank = os.environ['RANK']\n"


def test_of_a_traceback_the_users_frames_and_the_last_one_are_shown() -> None:
    tail = [
        "before",
        "[rank2]: Traceback (most recent call last):",
        '[rank2]:   File "/opt/ml/code/train.py", line 3, in <module>',
        "[rank2]:     fit()",
        '[rank2]:   File "/opt/lib/python3.11/site-packages/lightning/trainer.py", line 5, in fit',
        "[rank2]:     step()",
        "[rank2]:     ^^^^^^",
        '[rank2]:   File "/opt/ml/code/train.py", line 9, in step',
        "[rank2]:     linear(x)",
        '[rank2]:   File "/opt/lib/python3.11/site-packages/torch/nn.py", line 7, in linear',
        "[rank2]: ValueError: two",
        "[rank2]: lines",
    ]
    assert error_text(tail) == [
        "Traceback (most recent call last):",
        '  File "/opt/ml/code/train.py", line 3, in <module>',
        "    fit()",
        "  ...",
        '  File "/opt/ml/code/train.py", line 9, in step',
        "    linear(x)",
        '  File "/opt/lib/python3.11/site-packages/torch/nn.py", line 7, in linear',
        "ValueError: two",
        "lines",
    ]


def test_a_long_error_is_cut_to_twenty_lines_with_its_end() -> None:
    frames = [line for n in range(50) for line in (f'  File "/code/a.py", line {n}, in f', "    f()")]
    text = error_text(["Traceback (most recent call last):", *frames, "RecursionError: deep"])
    assert len(text) == 20
    assert (text[0], text[-1]) == ("Traceback (most recent call last):", "RecursionError: deep")


def test_an_error_without_a_traceback_is_its_last_lines() -> None:
    assert error_text([str(n) for n in range(100)]) == [str(n) for n in range(80, 100)]


def test_a_failing_job_shows_each_line_of_its_error_once_and_with_verbose_all(script: Callable[[str], Path]) -> None:
    path = script(f"{MODULE}time.sleep(3 * (rank != '1'))\nraise RuntimeError('reason of ' + rank)\n")
    options = ["--processes-per-host", "2", "--launcher", "torchrun"]
    done = run_cli(*options, str(path))
    assert re.findall(r"reason of \d", done.stderr.replace("'reason of '", "")) == ["reason of 1"]
    assert re.search(r"simulate: \d+ lines of errors are left out\. HINT: --verbose", done.stderr)
    assert "[algo-1 rank 1] RuntimeError: reason of 1" in run_cli("--verbose", *options, str(path)).stderr


def test_a_traceback_that_the_script_has_caught_is_shown(script: Callable[[str], Path]) -> None:
    path = script("import logging\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n    logging.exception('caught')\n")
    done = run_cli(str(path))
    assert "[algo-1] ZeroDivisionError: division by zero" in done.stderr
    assert "left out" not in done.stderr
