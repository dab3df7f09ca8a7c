"""Starts the processes of a trial, kills those that hang, and starts again behind the operation that did."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.probe.trials import INIT, TRIALS

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from lightning_sagemaker.probe.trials import Task

COMMAND = (sys.executable, "-m", "lightning_sagemaker.probe.attempt")
_POLL = 0.1
_LAST_WORDS = 3  # lines of a process that died


def outcomes(task: Task, until: float, command: Sequence[str] = COMMAND) -> Iterator[tuple[str, dict[str, Any]]]:
    """Try all operations of a trial, and tell the outcome of each at once, also of those that are not reached.

    Args:
        task: The trial and this rank's place in it; ``start`` and ``results`` are chosen here.
        until: Time (monotonic) after which no further process is started.
        command: Program of a trial's process.

    Yields:
        Operation and outcome, and at last how the processes ended.
    """
    names, start, ends = TRIALS[task.trial].operations, 0, []
    reason = "no time was left"
    while start < len(names) and time.monotonic() < until:
        finished: dict[str, dict[str, Any]] = {}
        end = yield from _run(replace(task, start=start), command, finished)
        ends.append(end)
        reached = max((names.index(name) + 1 for name in finished), default=0)
        failed = INIT in finished and finished[INIT]["outcome"] != "ok"
        if failed or reached <= start:
            # All ranks see the same: a group that cannot be made, or ranks that do not come.
            reason = f"the group could not be made: {finished[INIT].get('text')}" if failed else "not all ranks came"
            start = max(start, reached)
            break
        start = reached
    for name in names[start:]:
        yield name, {"outcome": "not tried", "text": reason}
    yield "end", {"outcome": "ok" if ends and ends[-1]["code"] == 0 else "error", "processes": ends}


def _run(
    task: Task, command: Sequence[str], finished: dict[str, dict[str, Any]]
) -> Generator[tuple[str, dict[str, Any]], None, dict[str, Any]]:
    """Run one process; ``finished`` receives its outcomes, of which those are yielded that are new."""
    begin, asked = time.monotonic(), TRIALS[task.trial].operations[task.start :]
    with tempfile.TemporaryDirectory() as folder:
        results, output = Path(folder, "results.jsonl"), Path(folder, "output")
        results.touch()
        arguments = json.dumps(asdict(replace(task, results=str(results))))
        with output.open("wb") as file:
            process = subprocess.Popen(  # noqa: S603 - this package's own program
                [*command, arguments], stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=_environment(task)
            )
            hang = False
            try:
                for new in _watch(process, results, task):
                    finished |= new
                    hang = not new
                    for name in asked:
                        if name in new:
                            yield name, new[name]
            finally:
                process.kill()  # does nothing to one that has ended
                process.wait()
        left = [name for name, each in _read(results).items() if each["outcome"] == "begun"]
        words = " ".join(output.read_text("utf-8", errors="replace").strip().splitlines()[-_LAST_WORDS:])
        how = f"no answer within {task.limit:g} s" if hang else f"exit code {process.returncode}"
        for name in left:
            finished[name] = {"outcome": "hang" if hang else "ended", "text": f"{how}: {words}"}
            if name in asked:
                yield name, finished[name]
    return {"code": process.returncode, "seconds": round(time.monotonic() - begin, 1), "hang": hang}


def _watch(process: subprocess.Popen[bytes], results: Path, task: Task) -> Iterator[dict[str, dict[str, Any]]]:
    """New outcomes as they are written; at last nothing, where the process was silent for too long and was killed."""
    told, size, since = set[str](), 0, time.monotonic()
    limit = 2 * task.patience  # its imports and those of the others
    while True:
        running = process.poll() is None
        if (now := results.stat().st_size) != size:
            size, since = now, time.monotonic()
            found = _read(results)
            # It waits for others only between two operations, and has its own limit for that.
            in_one = any(each["outcome"] == "begun" for each in found.values())
            limit = task.limit if in_one else 3 * task.limit
            if new := {name: each for name, each in found.items() if each["outcome"] != "begun" and name not in told}:
                told |= new.keys()
                yield new
        if not running:
            return
        if time.monotonic() - since > limit:
            process.kill()
            process.wait()
            yield {}
            return
        time.sleep(_POLL)


def _read(results: Path) -> dict[str, dict[str, Any]]:
    """The last word about each operation, in their order."""
    found: dict[str, dict[str, Any]] = {}
    for text in results.read_text(encoding="utf-8").splitlines():
        with suppress(ValueError):  # a line of a process that was killed
            each = json.loads(text)
            found[each.pop("operation")] = each
    return found


def _environment(task: Task) -> dict[str, str]:
    # What scripts find under torchrun, and what libraries may look for under other launchers.
    ranks = {"RANK": task.rank, "WORLD_SIZE": task.world_size, "LOCAL_RANK": task.local_rank}
    given = {name: str(value) for name, value in ranks.items()}
    return {**given, **os.environ, "PYTHONUNBUFFERED": "1"}
