"""What the fake SMDDP says of itself, what it writes down, and where it refuses to be imported."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.xdist_group("fake SMDDP")  # the worlds are shared by all tests
SCRIPTS = Path(__file__).parent
Worlds = Callable[..., Any]


def test_rank_zero_says_once_that_it_is_a_fake(mpirun: Any) -> None:
    first, second = mpirun.errors
    assert first.count("FAKE SMDDP, NOT AWS's library") == 1
    assert "gloo (CPU tensors)" in first
    assert "AllGather side off (mpirun, and SMDATAPARALLEL_OPTIMIZE_SDP was not true at import)" in first
    assert "FAKE SMDDP" not in second


def test_log_has_every_call_with_its_tensor(world: Worlds) -> None:
    for rank, log in enumerate(world("collectives").logs):
        calls = [{name: value for name, value in line.items() if name != "time"} for line in log]
        where = {"group_size": 2, "rank": rank}
        tensor = {"dtype": "float32", "shape": [12], "bytes": 48}
        assert calls[0] == {"op": "init", "device": "cpu", "allgather": False, **where}
        assert calls[1:6] == [
            {"op": "all_reduce", "reduce_op": "SUM", **tensor, **where},
            {"op": "all_reduce", "reduce_op": "SUM", **tensor, **where},
            {"op": "broadcast", "root": 1, **tensor, **where},
            {"op": "reduce", "root": 1, "reduce_op": "SUM", **tensor, **where},
            {"op": "all_gather", **tensor, **where},
        ]
        assert calls[6] == {"op": "barrier", **where}
        assert [call["op"] for call in calls].count("destroy") == 2
        assert not any("refused" in call for call in calls)


def test_log_has_what_was_refused(mpirun: Any) -> None:
    for log in mpirun.logs:
        refused = {line["op"]: line for line in log if "refused" in line}
        assert refused["new_group"]["backend"] == "smddp"
        assert (refused["reduce"]["dtype"], refused["reduce"]["reduce_op"]) == ("float32", "MAX")
        assert "does not support: ReduceOp (MAX;" in refused["reduce"]["refused"]


def test_log_of_a_killed_process_is_whole(clean_environment: Callable[..., dict[str, str]], tmp_path: Path) -> None:
    store = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}  # a world of one: any free port
    environ = clean_environment(LIGHTNING_SAGEMAKER_FAKE_SMDDP_LOG=str(tmp_path), RANK="0", WORLD_SIZE="1", **store)
    log = tmp_path / "rank-0.jsonl"
    with subprocess.Popen([sys.executable, SCRIPTS / "endless.py"], env=environ, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and (not log.exists() or log.stat().st_size < 10_000):
                time.sleep(0.05)
        finally:
            process.send_signal(signal.SIGKILL)
    text = log.read_text(encoding="utf-8")
    assert len(text) >= 10_000
    assert text.endswith("}\n")
    assert {json.loads(line)["op"] for line in text.splitlines()} == {"init", "all_reduce"}


def test_nothing_is_logged_where_nobody_asks_for_it(mpirun_with_option: Any) -> None:
    assert mpirun_with_option.files == ["0.json"]


@pytest.fixture
def imported_under(clean_environment: Callable[..., dict[str, str]]) -> Callable[..., Any]:
    def imported_under(*environments: dict[str, str]) -> Any:
        command = [sys.executable, str(SCRIPTS / "imports.py"), json.dumps(environments)]
        done = subprocess.run(command, env=clean_environment(), check=True, stdout=subprocess.PIPE)
        return json.loads(done.stdout)

    return imported_under


def test_import_fails_on_instance_types_without_smddp(imported_under: Callable[..., Any]) -> None:
    answers = imported_under(
        {"SAGEMAKER_INSTANCE_TYPE": "ml.g5.12xlarge"},
        {"SM_CURRENT_INSTANCE_TYPE": "ml.p3.16xlarge"},
        {"SAGEMAKER_INSTANCE_TYPE": "ml.p5.48xlarge", "SM_CURRENT_INSTANCE_TYPE": "ml.p4d.24xlarge"},
        {"SM_CURRENT_INSTANCE_TYPE": "ml.p4d.24xlarge", "LIGHTNING_SAGEMAKER_FAKE_SMDDP_INSTANCE_TYPES": "ml.x"},
    )["answers"]
    for (kind, text, registered), name in zip(answers, ("g5.12", "p3.16", "p5.48", "p4d.24"), strict=True):
        assert kind == "RuntimeError"  # and no ImportError: guards for that one do not catch it
        assert text.startswith(f"SMDDP does not support: instance type ml.{name}xlarge (")
        assert not registered


def test_import_works_on_instance_types_with_smddp_on_unknown_ones_and_with_the_check_off(
    imported_under: Callable[..., Any],
) -> None:
    there = imported_under(
        {"SAGEMAKER_INSTANCE_TYPE": "ml.p4d.24xlarge", "SM_CURRENT_INSTANCE_TYPE": "ml.g5.12xlarge"},
        {"SM_CURRENT_INSTANCE_TYPE": "ml.p4de.24xlarge"},
        {},
        {"SM_CURRENT_INSTANCE_TYPE": "ml.g5.xlarge", "LIGHTNING_SAGEMAKER_FAKE_SMDDP_INSTANCE_TYPES": "any"},
        {"SM_CURRENT_INSTANCE_TYPE": "ml.x", "LIGHTNING_SAGEMAKER_FAKE_SMDDP_INSTANCE_TYPES": "ml.y, ml.x"},
    )
    assert there == {"answers": [["imported", "", True]] * 5, "version": "2.6.0+fake"}
