"""Every host its own data: what a distributed sampler drops, and the three ways out, as the message says them."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from ..simulate.helpers import run_cli  # noqa: TID252 - importmode=importlib

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 16
PARTS = {"algo-1": [*range(0, ROWS, 2)], "algo-2": [*range(1, ROWS, 2)]}
ALL = [*range(ROWS)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in ALL:
        path = tmp_path / "data" / f"{number:02}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(str(number))
    (tmp_path / "out").mkdir()
    return tmp_path


def run(folder: Path, request: pytest.FixtureRequest, *options: str, arguments: tuple[str, ...] = ()) -> Any:
    """Run the script on two hosts; give back what the command said, and the rows by what was done and by host."""
    channels = ("--channel", f"part={folder / 'data'}:sharded", "--channel", f"full={folder / 'data'}")
    script = request.path.with_name("train_on_shards.py")
    done = run_cli("--hosts", "2", *options, *channels, str(script), "--", str(folder / "out"), *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    rows: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted((folder / "out").iterdir()):
        found = json.loads(path.read_text())
        rows[path.name.partition("-")[0]][found["host"]] += found["seen"]
    return done.stdout + done.stderr, {
        what: {host: sorted(seen) for host, seen in hosts.items()} for what, hosts in rows.items()
    }


@pytest.mark.parametrize(
    "options", [(), ("--processes-per-host", "2", "--distribution", "torch_distributed")], ids=["none", "torchrun"]
)
def test_a_line_says_what_is_dropped_and_each_way_out_keeps_all(
    folder: Path, request: pytest.FixtureRequest, options: tuple[str, ...]
) -> None:
    said, rows = run(folder, request, *options)
    assert said.count("Input channel(s) part are ShardedByS3Key: each of the 2 hosts") == 1  # of four Trainers
    assert all(len(seen) == ROWS / 4 for seen in rows["default"].values())  # half of its half
    assert sorted(row for seen in rows["replicated"].values() for row in seen) == ALL  # (a)
    assert rows["sampler"] == PARTS  # (b)
    assert rows["alone"] == PARTS  # (c)


def test_each_host_by_itself_on_several_devices(folder: Path, request: pytest.FixtureRequest) -> None:
    said, rows = run(folder, request, "--processes-per-host", "2", arguments=("alone",))
    assert "ShardedByS3Key" not in said
    assert rows == {"alone": PARTS}
