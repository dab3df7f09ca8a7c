"""What a script finds changed around it: environment, logging, threads, random numbers, warnings."""

from __future__ import annotations

import io
import logging
import os
import random
import sys
import threading
import warnings
from typing import Any

import numpy as np
import torch
from lightning.pytorch import seed_everything

from tests.beside_stock.model import Model, fitted, loader, trainer
from tests.beside_stock.registry import situation


def _variables() -> dict[str, str]:
    # The port is torchrun's choice, new for each launch.
    changing = ("MASTER_PORT", "TMPDIR", "SAGEMAKER", "SM_", "TRAINING_JOB", "PYTHONPATH", "PWD", "LIGHTNING_SAGEMAKER")
    return {name: value for name, value in os.environ.items() if not name.startswith(changing)}


def _environment() -> Any:
    before = _variables()
    t, m = trainer(), Model()
    t.fit(m, loader())
    t.test(m, loader(8), verbose=False)
    after = _variables()
    return {
        name: [before.get(name), after.get(name)] for name in {*before, *after} if before.get(name) != after.get(name)
    }


@situation()
def environment_before_and_after(_start: int) -> Any:
    return _environment()


@situation("two")
def environment_before_and_after_on_two_processes(_start: int) -> Any:
    return _environment()


@situation("hosts")
def environment_before_and_after_on_two_hosts(_start: int) -> Any:
    return _environment()


@situation("two")
def random_numbers(_start: int) -> Any:
    """A seed gives the same numbers after a fit, a test and a checkpoint."""
    seed_everything(11, workers=True, verbose=False)
    t, m = trainer(), Model()
    made = [float(torch.rand(1)), random.random(), float(np.random.rand())]  # noqa: S311, NPY002 - as users' scripts do
    t.fit(m, loader(shuffle=True), loader(8))
    t.save_checkpoint("model.ckpt")
    t.test(m, loader(8), verbose=False)
    after = [float(torch.rand(1)), random.random(), float(np.random.rand())]  # noqa: S311, NPY002 - as users' scripts do
    return fitted(m, t) | {"made": made, "after": after}


def _handlers() -> dict[str, Any]:
    names = ("", "lightning", "lightning.pytorch", "lightning.fabric", "torch", "py.warnings", "mine")
    return {
        name: [logger.level, logger.propagate, logger.disabled, [type(handler).__name__ for handler in logger.handlers]]
        for name in names
        for logger in [logging.getLogger(name)]
    }


@situation("two")
def logging_set_up_by_the_script(_start: int) -> Any:
    """A root handler with a format of the user's: what arrives there of the user's and of Lightning's."""
    stream = io.StringIO()
    logging.basicConfig(stream=stream, level=logging.INFO, format="%(name)s %(levelname)s %(message)s", force=True)
    before = _handlers()
    logging.getLogger("mine").info("begin")
    t, m = trainer(), Model()
    t.fit(m, loader())
    logging.getLogger("mine").info("end")
    ours = "lightning_sagemaker "
    lines = [line for line in stream.getvalue().splitlines() if not line.startswith(ours)]
    kept = [line for line in lines if line.startswith("mine ")]
    return {
        "before": before,
        "after": _handlers(),
        "mine": kept,
        "roots": [type(h).__name__ for h in logging.root.handlers],
    }


@situation()
def logging_left_alone(_start: int) -> Any:
    """Without a set-up of the user's, an INFO line of the user's stays silent."""
    stderr, sys.stderr = sys.stderr, io.StringIO()
    try:
        before = _handlers()
        t, m = trainer(), Model()
        t.fit(m, loader())
        logging.getLogger("mine").info("silent")
        logging.getLogger("mine").warning("heard")
        told = sys.stderr.getvalue().splitlines()
    finally:
        sys.stderr = stderr
    return {"before": before, "after": _handlers(), "told": [line for line in told if line in ("silent", "heard")]}


@situation(allowed={"sigterm": {"result": ["MainThread", "sigterm"]}})
def threads_left(_start: int) -> Any:
    t, m = trainer(), Model()
    t.fit(m, loader())
    return sorted(thread.name for thread in threading.enumerate())


@situation("two")
def threads_that_end_with_the_process(_start: int) -> Any:
    """Others than daemons would keep a process from ending."""
    t, m = trainer(), Model()
    t.fit(m, loader())
    return sorted(thread.name for thread in threading.enumerate() if not thread.daemon)


def _warned() -> Any:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        t, m = trainer(enable_checkpointing=True), Model()
        t.fit(m, loader(6, 4), loader(8))
        t.test(m, loader(8), verbose=False)
    return sorted({f"{warning.category.__name__}: {str(warning.message)[:80]}" for warning in caught})


@situation()
def warnings_given(_start: int) -> Any:
    return _warned()


@situation("two")
def warnings_given_on_two_processes(_start: int) -> Any:
    return _warned()


@situation()
def settings_of_the_process(_start: int) -> Any:
    """Folder, hooks, defaults of torch and Python."""

    def look() -> list[Any]:
        mask = os.umask(0)
        os.umask(mask)
        return [
            *(os.getcwd(), mask, sys.flags.dev_mode, sys.getswitchinterval(), sys.getrecursionlimit()),  # noqa: PTH109
            *(torch.get_num_threads(), str(torch.get_default_dtype()), torch.are_deterministic_algorithms_enabled()),
            *(torch.is_grad_enabled(), torch.get_float32_matmul_precision(), sys.getdefaultencoding()),
        ]

    before = look()
    t, m = trainer(), Model()
    t.fit(m, loader())
    return {"before": before, "after": look(), "main": sys.modules["__main__"].__name__}


@situation(arms=("metrics",))
def without_standard_output(_start: int) -> Any:
    """As under ``pythonw``, or where a script has put it aside."""
    stdout, sys.stdout = sys.stdout, None
    try:
        t, m = trainer(), Model()
        t.fit(m, loader(), loader(8))
    finally:
        sys.stdout = stdout
    return fitted(m, t)
