"""Real trainings in every launch mode, through Trainer and Fabric of both distributions.

One job a mode runs all four, one after the other in one process group, and each mode begins with another one. What the
jobs saw goes to build/launch-modes.json, from which scripts/launch_table.py makes the table in docs/launch-modes.md.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

SCRIPT = Path(__file__).with_name("train_everything.py")
ROOT = Path(__file__).parents[2]
ROUTES = tuple(
    name
    for name in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning", "lightning_fabric")
    if importlib.util.find_spec(name.split(".")[0])
)
TRAINERS = tuple(name for name in ROUTES if "fabric" not in name)
# Each rank's own mark, for the processes that it starts.
SET_BY_US = {"LIGHTNING_SAGEMAKER_RANK_PROCESS"}
# Stock Lightning and torch set these at first use, with or without this package.
SET_BY_STOCK = {"OMP_NUM_THREADS", "PYTORCH_NVML_BASED_CUDA_CHECK", "TORCHINDUCTOR_CACHE_DIR"}
# Where SageMaker starts one process per host, Lightning's own launcher starts the others, and leaves these behind.
LEFT_BY_LIGHTNINGS_LAUNCHER = {"LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "WORLD_SIZE"}
# What torch needs for the rendezvous: Lightning writes it wherever the launcher has not.
LEFT_BY_LIGHTNINGS_RENDEZVOUS = {"MASTER_ADDR", "MASTER_PORT"}

SHOWN = ("strategy", "environment", "world_size", "num_nodes", "devices")  # in the page's table


@dataclass(frozen=True)
class Mode:
    title: str
    arguments: tuple[str, ...]
    hosts: int = 2
    processes: int = 2
    left_behind: set[str] = field(default_factory=set, hash=False)

    @property
    def world_size(self) -> int:
        return self.hosts * self.processes


MODES = {
    "v2-none": Mode("SDK v2, no distribution", ("none",), left_behind=LEFT_BY_LIGHTNINGS_LAUNCHER),
    "v2-torch_distributed": Mode("SDK v2, `torch_distributed`", ("torch_distributed",)),
    "v2-smdistributed": Mode("SDK v2, `smdistributed.dataparallel`, image with SMDDP", ("smdistributed",)),
    "v2-no-smddp": Mode("SDK v2, `smdistributed.dataparallel`, image without SMDDP", ("smdistributed", "--no-smddp")),
    "v2-pytorchddp": Mode("SDK v2, `pytorchddp`, image without SMDDP", ("pytorchddp", "--no-smddp")),
    "v2-mpi": Mode("SDK v2, `mpi`", ("mpi",)),
    "v3-none": Mode("SDK v3, no distribution", ("none", "--sdk", "v3"), left_behind=LEFT_BY_LIGHTNINGS_LAUNCHER),
    "v3-torchrun": Mode("SDK v3, `Torchrun()`", ("torch_distributed", "--sdk", "v3")),
    "v3-mpi": Mode(
        "SDK v3, `MPI()` with `-np` repaired",
        ("mpi", "--sdk", "v3", "--mpi-option=-np", "--mpi-option=4"),
        left_behind=LEFT_BY_LIGHTNINGS_RENDEZVOUS,
    ),
    "one-process-per-host": Mode("one process per host, `torch_distributed`", ("torch_distributed",), processes=1),
    "one-host": Mode("one host, `torch_distributed`", ("torch_distributed",), hosts=1),
    "one-process": Mode("one host, one process", ("none",), hosts=1, processes=1),
}

Ranks = list[dict[str, Any]]


@pytest.fixture(scope="session")
def train(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Ranks]:
    """Runs the job of a mode once; what its ranks wrote, by rank."""
    done: dict[str, Ranks] = {}

    def run(name: str) -> Ranks:
        if name not in done:
            out, mode = tmp_path_factory.mktemp(name), MODES[name]
            first = list(MODES).index(name) % len(ROUTES)
            command = [
                *(Path(sys.executable).with_name("lightning-sagemaker"), "simulate"),
                *("--hosts", mode.hosts, "--processes-per-host", mode.processes, "--distribution", *mode.arguments),
                *(SCRIPT, "--", "--out", out, "--routes", *ROUTES[first:], *ROUTES[:first]),
            ]
            job = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=240)
            assert job.returncode == 0, job.stdout + job.stderr
            done[name] = [json.loads((out / f"{rank}.json").read_text()) for rank in range(len(list(out.iterdir())))]
            _record(name, done[name])
        return done[name]

    return run


def _record(name: str, ranks: Ranks) -> None:
    path = ROOT / "build" / "launch-modes.json"
    path.parent.mkdir(exist_ok=True)
    table = json.loads(path.read_text()) if path.exists() else {}
    mode, result = MODES[name], ranks[0]["results"]
    table[name] = {
        "title": mode.title,
        "hosts": mode.hosts,
        "processes": mode.processes,
        "routes": {route: {key: result[route][key] for key in SHOWN} for route in sorted(result)},
    }
    path.write_text(json.dumps({key: table[key] for key in MODES if key in table}, indent=1))


@pytest.fixture(scope="session")
def reference() -> Callable[[str, str, int], list[float]]:
    """Weights after the same global batches in a single process, for a mode, a route and a number of epochs."""
    spec = importlib.util.spec_from_file_location("train_everything", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def weights(name: str, route: str, epochs: int) -> list[float]:
        world_size = MODES[name].world_size
        # The Trainer shuffles what it deals out for training, Fabric keeps the loader's order.
        shuffled = route in TRAINERS and world_size > 1
        return module.reference(world_size, epochs, shuffled=shuffled)  # type: ignore[no-any-return]

    return weights


# One of each launcher, and the single process; the others are launched in the same ways, and trained in each night.
_EACH_TIME = ("v2-none", "v2-torch_distributed", "v2-mpi", "one-process")
every_mode = pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name, marks=[pytest.mark.xdist_group(name), *([] if name in _EACH_TIME else [pytest.mark.nightly])]
        )
        for name in MODES
    ],
)
every_route = pytest.mark.parametrize("route", ROUTES)


@every_mode
@every_route
def test_every_rank_of_the_world_takes_part_once(train: Callable[[str], Ranks], name: str, route: str) -> None:
    mode, ranks = MODES[name], [rank["results"][route] for rank in train(name)]
    assert [rank["rank"] for rank in ranks] == list(range(mode.world_size))
    assert {rank["world_size"] for rank in ranks} == {mode.world_size}
    assert [rank["local_rank"] for rank in ranks] == list(range(mode.processes)) * mode.hosts
    assert [rank["node_rank"] for rank in ranks] == [host for host in range(mode.hosts) for _ in range(mode.processes)]


@every_mode
@every_route
def test_hosts_devices_and_environment_come_from_the_job(train: Callable[[str], Ranks], name: str, route: str) -> None:
    mode, ranks = MODES[name], [rank["results"][route] for rank in train(name)]
    assert {rank["num_nodes"] for rank in ranks} == {mode.hosts}
    assert {rank["devices"] for rank in ranks} == {mode.processes}
    plain = mode.world_size == 1
    assert {rank["environment"] for rank in ranks} == {"NoneType" if plain else "SageMakerEnvironment"}
    assert {rank["strategy"] for rank in ranks} == {"SingleDeviceStrategy" if plain else "DDPStrategy"}
    assert len({rank["main"] for rank in ranks}) == 1


@every_mode
@every_route
def test_each_rank_samples_its_own_share(train: Callable[[str], Ranks], name: str, route: str) -> None:
    mode, ranks = MODES[name], [rank["results"][route] for rank in train(name)]
    assert {rank["replicas"] for rank in ranks} == {mode.world_size}
    assert [rank["sampler_rank"] for rank in ranks] == list(range(mode.world_size))


@every_mode
def test_ranks_of_one_host_run_on_that_host(train: Callable[[str], Ranks], name: str) -> None:
    mode, ranks = MODES[name], train(name)
    hosts = [rank["host"] for rank in ranks]
    assert len(set(hosts)) == mode.hosts
    assert all(len(set(hosts[start : start + mode.processes])) == 1 for start in range(0, len(hosts), mode.processes))


@every_mode
@every_route
def test_weights_equal_those_of_one_process_over_the_same_global_batches(
    train: Callable[[str], Ranks], reference: Callable[[str, str, int], list[float]], name: str, route: str
) -> None:
    expected = pytest.approx(reference(name, route, 2), abs=1e-6)
    for rank in train(name):
        assert rank["results"][route]["weights"] == expected


@every_mode
@pytest.mark.parametrize("route", TRAINERS)
def test_validate_test_predict_and_a_second_fit_follow_in_the_same_process_group(
    train: Callable[[str], Ranks], reference: Callable[[str, str, int], list[float]], name: str, route: str
) -> None:
    ranks = [rank["results"][route] for rank in train(name)]
    for rank in ranks:
        assert rank["validated"] == rank["tested"] == pytest.approx(ranks[0]["validated"])
        assert rank["predicted"] == 48 // MODES[name].world_size
        assert rank["second_fit"] == pytest.approx(reference(name, route, 1), abs=1e-6)


@every_mode
@pytest.mark.parametrize("route", TRAINERS)
def test_a_later_trainer_for_one_device_runs_alone_on_the_rank_that_makes_it(
    train: Callable[[str], Ranks], name: str, route: str
) -> None:
    ranks = [rank["results"][route] for rank in train(name)]
    assert [rank["on_rank_zero"] is not None for rank in ranks] == [rank == 0 for rank in range(len(ranks))]
    for found in (ranks[0]["on_rank_zero"], *(rank["on_each_rank"] for rank in ranks)):
        assert (found["world_size"], found["predicted"]) == (1, 48)
        assert found["validated"] == found["tested"] == pytest.approx(ranks[0]["expected"])


@every_mode
def test_the_process_environment_is_left_as_it_was(train: Callable[[str], Ranks], name: str) -> None:
    for rank in train(name):
        assert set(rank["environment_changed"]) - SET_BY_STOCK - SET_BY_US <= MODES[name].left_behind
