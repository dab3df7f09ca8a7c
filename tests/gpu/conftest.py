"""What the tests of this folder share: the device, the jobs, and the table of figures at the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    Ranks = list[Any]
    Job = Callable[..., Callable[[str], Ranks]]
    Figure = Callable[[str, str], None]

ROOT = Path(__file__).parents[2]
LIMIT = 200  # seconds for one job


def pytest_configure(config: pytest.Config) -> None:
    """Name the marker."""
    config.addinivalue_line("markers", "needs_gpu: what only a GPU can show")


@pytest.fixture(scope="session")
def gpu() -> str | None:
    """What CUDA_VISIBLE_DEVICES holds where one GPU shall be seen; ``None`` where torch sees none."""
    import torch  # noqa: PLC0415 - two seconds, where tests are only collected

    if not torch.cuda.is_available():
        return None
    return os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]


@pytest.fixture(autouse=True)
def _skip(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("needs_gpu") and request.getfixturevalue("gpu") is None:
        import torch  # noqa: PLC0415

        pytest.skip(f"needs a GPU, and torch {torch.__version__} sees none")


def simulate(
    device: str | None, checks: str, folder: Path, *options: str, group: str = "lightning"
) -> subprocess.CompletedProcess[str]:
    """Run a job of checks."""
    # As a module from this tree: an image that has a CUDA build of torch need not have this package.
    command = [
        sys.executable,
        "-m",
        "lightning_sagemaker.cli",
        "simulate",
        "--distribution",
        "torch_distributed",
        *options,
    ]
    arguments = [str(ROOT / "tests/gpu/job.py"), "--", str(folder), device or "cpu", group, checks]
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*command, *arguments], env=environ, capture_output=True, text=True, check=False, timeout=LIMIT
    )


@pytest.fixture(scope="module")
def job(gpu: str | None, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Run a job once; it gives what each rank has seen in a check."""

    def run(checks: list[str], *options: str, group: str = "lightning") -> Callable[[str], Ranks]:
        folder = tmp_path_factory.mktemp("job")
        done = simulate(gpu, ",".join(checks), folder, *options, group=group)
        log = done.stdout + done.stderr
        told = [dict(map(json.loads, path.read_text("utf-8").splitlines())) for path in sorted(folder.glob("*.jsonl"))]
        assert told, log

        def seen(check: str) -> Ranks:
            outcomes = [rank.get(check, {"error": f"not reached:\n{log}"}) for rank in told]
            for rank, outcome in enumerate(outcomes):
                assert "error" not in outcome, f"rank {rank}: {outcome['error']}"
            return [outcome["seen"] for outcome in outcomes]

        return seen

    return run


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Figure:
    """Write a figure into the table at the end of the run."""
    return lambda what, value: record_property(f"figure: {what}", value)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The figures, as docs/benchmarks.md takes them."""
    rows = [
        f"| {name.removeprefix('figure: ')} | {value} |"
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
        if report.when == "call" and name.startswith("figure: ")
    ]
    if rows:
        terminalreporter.section(f"figures of one device, {datetime.now(timezone.utc):%Y-%m-%d}")
        for row in ("| what | figure |", "|---|---|", *rows):
            terminalreporter.write_line(row)
