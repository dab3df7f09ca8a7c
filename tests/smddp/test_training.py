"""Real trainings under the fake SMDDP, compared with native DDP on gloo, number by number."""

from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.xdist_group("smddp training")  # the trainings are shared by all tests

FOLDER = Path(__file__).parent
PACKAGES = [
    name
    for name in ("lightning.pytorch", "pytorch_lightning", "lightning.fabric", "lightning_fabric")
    if importlib.util.find_spec(name.split(".")[0])
]
TRAINERS = [name for name in PACKAGES if "fabric" not in name]
FABRICS = [name for name in PACKAGES if "fabric" in name]

Ranks = list[dict[str, Any]]


def simulate(
    script: str, *arguments: object, processes: int, hosts: int = 2, **variables: str
) -> subprocess.CompletedProcess[str]:
    command = [
        *(
            Path(sys.executable).with_name("lightning-sagemaker"),
            "simulate",
            "--verbose",
            "--distribution",
            "smdistributed",
        ),
        *("--hosts", hosts, "--processes-per-host", processes // hosts),
        *(part for name, value in variables.items() for part in ("--env", f"{name}={value}")),
        *(FOLDER / script, "--", *arguments),
    ]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=240)


@pytest.fixture(scope="session")
def train(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str, int], tuple[dict[str, Ranks], list[Any]]]:
    """Runs a script with a strategy once; its results by package and rank, and the fake's log of rank 0."""
    done: dict[tuple[str, str, int], tuple[dict[str, Ranks], list[Any]]] = {}

    def run(api: str, strategy: str, processes: int) -> tuple[dict[str, Ranks], list[Any]]:
        key = (api, strategy, processes)
        if key not in done:
            packages = TRAINERS if api == "trainer" else FABRICS
            out, log = tmp_path_factory.mktemp("out"), tmp_path_factory.mktemp("log")
            arguments = ("--strategy", strategy, "--out", out, "--packages", *packages)
            job = simulate(
                f"train_with_{api}.py", *arguments, processes=processes, LIGHTNING_SAGEMAKER_FAKE_SMDDP_LOG=str(log)
            )
            assert job.returncode == 0, job.stdout + job.stderr
            results = {
                package: [json.loads((out / package / f"{rank}.json").read_text()) for rank in range(processes)]
                for package in packages
            }
            entries = [json.loads(line) for path in sorted(log.iterdir()) for line in path.read_text().splitlines()]
            done[key] = results, entries
        return done[key]

    return run


worlds = pytest.mark.parametrize("processes", [2, 4])
trainers = pytest.mark.parametrize("package", TRAINERS)
fabrics = pytest.mark.parametrize("package", FABRICS)
Train = "Callable[[str, str, int], tuple[dict[str, Ranks], list[Any]]]"


def same(found: Any, expected: Any) -> bool:
    """Equal to 1e-6, where NaN equals NaN."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(found[key], expected[key]) for key in expected)
    return bool(found == pytest.approx(expected, abs=1e-6, nan_ok=True))


@worlds
@trainers
def test_trainer_logs_what_native_ddp_logs(train: Any, package: str, processes: int) -> None:
    ours, native = (train("trainer", strategy, processes)[0][package] for strategy in ("smddp", "ddp"))
    for rank, expected in zip(ours, native, strict=True):
        assert len(expected["logged"]) > 30
        assert same(rank["logged"], expected["logged"])


@worlds
@trainers
def test_a_metric_is_reduced_when_its_own_step_reads_it(train: Any, package: str, processes: int) -> None:
    mean_rank = (processes - 1) / 2
    for strategy in ("smddp", "ddp"):
        for rank in train("trainer", strategy, processes)[0][package]:
            assert rank["read"]
            assert set(rank["read"]) == {mean_rank}


@worlds
@trainers
def test_trainer_ends_with_the_weights_of_native_ddp(train: Any, package: str, processes: int) -> None:
    ours, native = (train("trainer", strategy, processes)[0][package] for strategy in ("smddp", "ddp"))
    for rank, expected in zip(ours, native, strict=True):
        assert rank["weights"] == pytest.approx(expected["weights"], abs=1e-6)
        assert rank["predicted"] == expected["predicted"]


@worlds
@trainers
def test_every_reduction_gives_what_gloo_gives(train: Any, package: str, processes: int) -> None:
    ours, native = (train("trainer", strategy, processes)[0][package] for strategy in ("smddp", "ddp"))
    for rank, expected in zip(ours, native, strict=True):
        assert len(expected["reduced"]) > 30
        assert same(rank["reduced"], expected["reduced"])
        assert rank["decision"] == expected["decision"] == [False, True]
        assert rank["broadcast"] == {"from": 1}


@worlds
@trainers
def test_checkpoints_and_early_stopping_decide_as_under_native_ddp(train: Any, package: str, processes: int) -> None:
    ours, native = (train("trainer", strategy, processes)[0][package] for strategy in ("smddp", "ddp"))
    assert ours[0]["checkpoints"] == native[0]["checkpoints"]
    assert "last.ckpt" in ours[0]["checkpoints"]
    assert {rank["best"] for rank in ours} == {native[0]["best"]}


@worlds
@trainers
def test_an_overridden_prepare_data_runs_on_the_first_rank_of_each_host(
    train: Any, package: str, processes: int
) -> None:
    ours = train("trainer", "smddp", processes)[0][package]
    first = [rank % (processes // 2) == 0 for rank in range(processes)]
    assert [rank["prepared"] for rank in ours] == [[prepared, prepared] for prepared in first]


@worlds
@fabrics
def test_fabric_computes_what_native_ddp_computes(train: Any, package: str, processes: int) -> None:
    ours, native = (train("fabric", strategy, processes)[0][package] for strategy in ("smddp", "ddp"))
    differing = {"strategy", "backend", "stated_backend"}
    for rank, expected in zip(ours, native, strict=True):
        assert all(same(rank[key], expected[key]) for key in expected.keys() - differing), (rank, expected)


@worlds
@pytest.mark.parametrize("package", TRAINERS + FABRICS)
def test_the_backend_in_use_can_be_read(train: Any, package: str, processes: int) -> None:
    api = "trainer" if package in TRAINERS else "fabric"
    for rank in train(api, "smddp", processes)[0][package]:
        assert rank["strategy"] == "SMDDPStrategy"
        assert rank["backend"] == rank["stated_backend"] == "smddp"


@worlds
@pytest.mark.parametrize("api", ["trainer", "fabric"])
def test_nothing_but_sums_is_asked_of_smddp_and_no_second_group(train: Any, api: str, processes: int) -> None:
    log = train(api, "smddp", processes)[1]
    reductions = [entry for entry in log if entry["op"] in ("all_reduce", "reduce")]
    assert reductions
    assert {entry["reduce_op"] for entry in reductions} == {"SUM"}
    assert {entry["op"] for entry in log} <= {"init", "all_reduce", "all_gather", "broadcast", "barrier", "destroy"}
    assert not [entry for entry in log if "refused" in entry]
    assert sum(entry["op"] == "init" for entry in log) == processes  # one group, made once by each rank


def test_the_others_wait_for_prepare_data_beyond_the_time_limit_of_collectives() -> None:
    job = simulate("prepare_slowly.py", "--package", TRAINERS[0], "--seconds", 8, processes=2)
    assert job.returncode == 0, job.stdout + job.stderr
    assert job.stdout.count("TRAINED") == 2


@pytest.mark.skipif(
    not hasattr(importlib.import_module(f"{FABRICS[0]}.utilities.distributed"), "_InfiniteBarrier"),
    reason="Lightning 2.2 guards prepare_data by no barrier of its own: the launcher ends the others",
)
def test_a_failed_prepare_data_reaches_every_rank_with_its_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # a failed job's files are kept
    job = simulate("prepare_slowly.py", "--package", TRAINERS[0], "--fail", processes=4)
    assert job.returncode != 0
    caught = [line for line in job.stdout.splitlines() if "CAUGHT" in line]
    assert len(caught) == 4, job.stdout + job.stderr
    assert all("the bucket is not readable" in line for line in caught), caught
