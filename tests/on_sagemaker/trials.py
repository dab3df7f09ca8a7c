"""Operations of process groups, tried in processes of their own: one that hangs is killed, and the next goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import operations
from operations import INIT, TRIALS, WORKS, Task

from lightning_sagemaker.distributed.interface import set_gloo_interface

if TYPE_CHECKING:
    from ranks import Ranks

EXIT = "exit"
NOT_REACHED = "not reached"
_IMPORTS = 3  # times the limit of an operation: from the start of a process to its first
_LAST_LINES = 3  # of a process that died


def outcomes(ranks: Ranks, trial: str) -> dict[str, dict[str, str]]:
    """What came of each operation of a trial, and of the end of its processes: by operation, then by rank."""
    task = Task(
        trial=trial,
        attempt=0,
        operations=TRIALS[trial].operations,
        rank=ranks.rank,
        size=ranks.size,
        local_rank=ranks.job.local_rank,
        address=ranks.job.main_address,
        port=ranks.port,
        job_port=ranks.job.main_port,
        limit=ranks.limit,
    )
    found: dict[str, dict[str, str]] = {}
    while True:
        seen = ranks.gather(f"{trial}/{task.attempt}", partial(_run, task, _environment(ranks)))
        reached = [name for name in task.operations if any(name in each for each in seen.values())]
        for name in (*(() if task.attempt else (INIT,)), *reached, EXIT):
            found[name] = {rank: each.get(name, NOT_REACHED) for rank, each in seen.items()}
        left = task.operations[len(reached) :]
        if not left or not reached:
            why = next((f": {each[INIT]}" for each in seen.values() if each.get(INIT, WORKS) != WORKS), "")
            return found | {name: dict.fromkeys(seen, f"{NOT_REACHED}{why}") for name in left}
        task = replace(task, attempt=task.attempt + 1, operations=left)


def _run(task: Task, environ: dict[str, str]) -> dict[str, str]:
    """Run one process; what came of each operation that it reached, and of its end if it reached all."""
    with tempfile.TemporaryDirectory() as folder:
        results, output = Path(folder, "results"), Path(folder, "output")
        results.touch()
        command = [sys.executable, operations.__file__, json.dumps(asdict(task)), str(results)]
        with output.open("wb") as file:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environ)
            try:
                code = _wait(process, results, task.limit)
            finally:
                process.kill()  # does nothing to one that has ended
                process.wait()
        told: dict[str, str | None] = dict(map(json.loads, results.read_text("utf-8").splitlines()))
        words = " ".join(output.read_text("utf-8", errors="replace").strip().splitlines()[-_LAST_LINES:])
    end = {None: "hangs", 0: WORKS}.get(code, f"ends the process with {code}: {words}")
    if told.keys() >= {INIT, *task.operations} and None not in told.values():
        told[EXIT] = end
    return {name: outcome or end for name, outcome in told.items()}


def _wait(process: subprocess.Popen[bytes], results: Path, limit: float) -> int | None:
    """Wait for a process; its exit code, ``None`` where it is silent for too long."""
    lines, since = 0, time.monotonic()
    while (code := process.poll()) is None:
        if (now := results.read_bytes().count(b"\n")) != lines:
            lines, since = now, time.monotonic()
        in_operation = lines % 2  # each writes a line when it begins and one when it ends
        if time.monotonic() - since > limit * (1 if in_operation else _IMPORTS):
            return None
        time.sleep(0.05)
    return code


def _environment(ranks: Ranks) -> dict[str, str]:
    """What scripts find under torchrun, and libraries look for under other launchers; gloo's interface too."""
    given = {"RANK": ranks.rank, "WORLD_SIZE": ranks.size, "LOCAL_RANK": ranks.job.local_rank}
    environ = {name: str(value) for name, value in given.items()} | os.environ | {"PYTHONUNBUFFERED": "1"}
    set_gloo_interface(ranks.job, environ)
    return environ
