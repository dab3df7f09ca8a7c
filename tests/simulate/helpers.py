"""Real processes: the command as a user types it, a script that writes down what it was given, who is still alive."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

REPOSITORY = Path(__file__).resolve().parents[2]
# The variables that any process needs; what else a test's process has, the test says.
PLAIN = {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}",
    "HOME": os.environ.get("HOME", "/"),
    "LANG": "C.UTF-8",
}

PROBE = """\
import json, os, sys
env = dict(os.environ)
rank = env.get("RANK", env.get("OMPI_COMM_WORLD_RANK", "none"))
host = env.get("CURRENT_HOST", env.get("SM_CURRENT_HOST"))
seen = {"host": host, "rank": rank, "env": env, "argv": sys.argv[1:], "cwd": os.getcwd(), "path0": sys.path[0]}
with open(os.path.join(env["PROBE_FOLDER"], f"{host}-{rank}-{os.getpid()}.json"), "w") as file:
    json.dump(seen, file)
"""


@dataclass(frozen=True)
class Seen:
    """What one worker was given."""

    host: str
    rank: str
    env: dict[str, str]
    argv: list[str]
    cwd: str
    path0: str


def require(reason: str) -> None:
    """Skip for a reason; where everything has to run (CI), fail for it."""
    if os.environ.get("LIGHTNING_SAGEMAKER_REQUIRE_ALL") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def read_probes(folder: Path) -> list[Seen]:
    """Return what the workers wrote down, by rank, then host."""
    seen = [Seen(**json.loads(path.read_text(encoding="utf-8"))) for path in folder.glob("*.json")]
    return sorted(seen, key=lambda one: (one.rank, one.host))


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "lightning_sagemaker.cli", "simulate", *arguments]


def environment(**more: str) -> dict[str, str]:
    return {**PLAIN, "PYTHONPATH": str(REPOSITORY), **more}


def run_cli(
    *arguments: str,
    env: Mapping[str, str] | None = None,
    timeout: float = 120,
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        env=env or environment(),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def finish(running: list[subprocess.Popen[str]], timeout: float = 120) -> None:
    """Wait for processes that lead sessions of their own; whatever happens, leave none of them behind."""
    try:
        for process in running:
            output, _ = process.communicate(timeout=timeout)
            assert process.returncode == 0, output
    finally:
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def alive(mark: str) -> list[str]:
    """Return the command lines of living processes that mention a mark."""
    running = psutil.process_iter(["cmdline", "status"])
    lines = [" ".join(each.info["cmdline"] or ()) for each in running if each.info["status"] != psutil.STATUS_ZOMBIE]
    return [line for line in lines if mark in line]


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    """Wait for an event, and fail when it does not come."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    return pytest.fail(f"after {seconds} s still not: {what}")


def normalised(env: Mapping[str, str], replacements: Mapping[str, str]) -> dict[str, Any]:
    """Replace what is different by nature (folders, names), then read JSON, so that its spelling does not count."""
    values: dict[str, Any] = {}
    for name, raw in env.items():
        value = raw
        for old, new in replacements.items():
            value = value.replace(old, new)
        try:
            values[name] = json.loads(value) if value[:1] in "[{" else value
        except ValueError:
            values[name] = value
    return values


def differences(simulated: Mapping[str, Any], real: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the variables that differ, with both values; None stands for unset."""
    names = sorted(set(simulated) | set(real))
    pairs = {name: (simulated.get(name), real.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
