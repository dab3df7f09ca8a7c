"""Rounds of contenders of which some are killed (SIGKILL) at random moments; prints what was seen, as JSON.

``kill_rounds.py ROUNDS SEED FOLDER``. In each round a few processes ask for the same piece of work, and one or two of
them are killed: mostly the one at work, at a moment anywhere from before the lock is taken until after the others
are woken. Independent witnesses: a record lock (``lockf``, which knows nothing of ``flock``) around the work, and a log
of who began and who ended it.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from lightning_sagemaker.locking import once_per_node

CONTENDERS = 4
LIMIT = 60.0  # seconds until a round counts as hung


def contend(key: str, folder: Path, seconds: float) -> NoReturn:
    """Be one contender, and write down how it ended."""
    worked = False

    def note(line: str) -> None:
        descriptor = os.open(folder / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{line} {os.getpid()}\n".encode())
        os.close(descriptor)

    def work() -> int:
        nonlocal worked
        descriptor = os.open(folder / "witness", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            note("overlap")
        note("begin")
        time.sleep(seconds)
        note("end")
        worked = True
        os.close(descriptor)
        return os.getpid()

    try:
        result: dict[str, Any] = {"value": once_per_node(work, key=key, timeout=LIMIT), "worked": worked}
    except BaseException as error:  # noqa: BLE001 - reported below
        result = {"error": repr(error)}
    part = folder / f"{os.getpid()}.part"
    part.write_text(json.dumps(result))
    part.replace(folder / f"{os.getpid()}.json")
    os._exit(0)


def at_work(folder: Path) -> int | None:
    """Pid of the process that began last."""
    try:
        lines = (folder / "log").read_text().split()
    except FileNotFoundError:
        return None
    return int(lines[-1]) if lines else None


def play(number: int, folder: Path, dice: random.Random) -> tuple[list[str], int]:
    """Play one round; return what was wrong in it, and how many were killed at work."""
    folder.mkdir()
    seconds = dice.choice((0.0, 0.002, 0.01))
    children = set()
    for _ in range(CONTENDERS):
        pid = os.fork()
        if pid == 0:
            contend(f"round {number}", folder, seconds)
        children.add(pid)
    killed: set[int] = set()
    killed_at_work = 0
    for _ in range(dice.choice((1, 1, 2))):
        time.sleep(dice.uniform(0, 0.02))
        if dice.random() < 0.7:  # wait for one at work, and give it a moment more, or less
            until = time.monotonic() + 0.05
            while at_work(folder) in (None, *killed) and time.monotonic() < until:
                time.sleep(0.0005)
            time.sleep(dice.uniform(0, seconds + 0.002))
        victim = at_work(folder)
        if victim is None or victim in killed:
            victim = dice.choice(sorted(children - killed))
        else:
            killed_at_work += 1
        os.kill(victim, signal.SIGKILL)
        killed.add(victim)
    problems = reap(children)
    problems += problems_in(folder, children, killed)
    return problems, killed_at_work


def reap(children: set[int]) -> list[str]:
    """Wait for all; end and report those that hang."""
    deadline = time.monotonic() + LIMIT
    left = set(children)
    while left and time.monotonic() < deadline:
        pid, _ = os.waitpid(-1, os.WNOHANG)
        left.discard(pid)
        if not pid:
            time.sleep(0.001)
    for each in left:
        os.kill(each, signal.SIGKILL)
        os.waitpid(each, 0)
    return [f"hung: {sorted(left)}"] if left else []


def problems_in(folder: Path, children: set[int], killed: set[int]) -> list[str]:
    """What is wrong with the end of a round."""
    results: dict[int, dict[str, Any]] = {
        int(path.stem): json.loads(path.read_text()) for path in folder.glob("*.json")
    }
    text = (folder / "log").read_text() if (folder / "log").exists() else ""
    log = [(line.split()[0], int(line.split()[1])) for line in text.splitlines()]
    problems = [f"{pid}: {result['error']}" for pid, result in results.items() if "error" in result]
    problems += [f"no result of {pid}" for pid in children - killed - results.keys()]
    values = {result["value"] for result in results.values() if "value" in result}
    if len(values) > 1:
        problems.append(f"several outcomes: {values}")
    # A process that has the value knows that the work is done: nobody may begin it after that, and nobody but the
    # killed may have begun it besides the one whose value counts.
    begun = [pid for what, pid in log if what == "begin"]
    problems += [f"{pid} began as well as {values}" for pid in begun if values and pid not in killed | values]
    if len(begun) != len(set(begun)):
        problems.append(f"begun twice by one process: {begun}")
    if values and begun and begun[-1] not in values:
        problems.append(f"{begun[-1]} began after the outcome of {values}")
    problems += [f"two at work: {pid}" for what, pid in log if what == "overlap"]
    return problems


def main(rounds: int, seed: int, folder: Path) -> None:
    """Play, and print the sum."""
    logging.getLogger("lightning_sagemaker").setLevel(logging.CRITICAL)
    dice = random.Random(seed)  # noqa: S311 - no secret
    start = time.monotonic()
    problems, killed = [], 0
    for number in range(rounds):
        wrong, at = play(number, folder / str(number), dice)
        problems += [f"round {number}: {problem}" for problem in wrong]
        killed += at
    seconds = round(time.monotonic() - start, 1)
    json.dump({"rounds": rounds, "seed": seed, "at_work": killed, "seconds": seconds, "problems": problems}, sys.stdout)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
