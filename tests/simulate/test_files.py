"""The files that a simulated host finds under its /opt/ml."""

from __future__ import annotations

import importlib
import inspect
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from lightning_sagemaker.simulate import Simulation, plan, source
from lightning_sagemaker.simulate.checkpoints import CheckpointPlace
from lightning_sagemaker.simulate.container import Cluster, create
from lightning_sagemaker.simulate.spec import SimulationError
from lightning_sagemaker.simulate.toolkit import share_devices

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def made(script: Callable[[str], Path], tmp_path: Path) -> Callable[..., Cluster]:
    """Make the hosts of a simulation without starting it."""

    def make(*arguments: str, place: CheckpointPlace | None = None, **options: Any) -> Cluster:
        job = Simulation(script("print()"), arguments, **options)
        cluster = Cluster(job, "job-1", tmp_path / "root", 4321, "us-east-1", source.read(job), place)
        for host in job.host_names:
            create(cluster, host)
        return cluster

    return make


def read(cluster: Cluster, host: str, name: str) -> Any:
    return json.loads((cluster.base(host) / "input/config" / name).read_text(encoding="utf-8"))


def test_hosts_are_sorted_as_text_and_the_group_begins_with_the_leader(made: Callable[..., Cluster]) -> None:
    cluster = made(hosts=11, distribution="mpi", leader=2)
    resources = read(cluster, "algo-10", "resourceconfig.json")
    assert resources["hosts"][:4] == ["algo-1", "algo-10", "algo-11", "algo-2"]
    assert resources["instance_groups"][0]["hosts"][:3] == ["algo-2", "algo-1", "algo-10"]
    assert resources["current_host"] == "algo-10"
    assert resources["current_group_name"] == "homogeneousCluster"


def test_the_last_host_leads_by_default(made: Callable[..., Cluster]) -> None:
    assert made(hosts=3, distribution="torch_distributed").job.leader_host == "algo-3"


@pytest.mark.parametrize("options", [{}, {"sdk": "v3", "distribution": "torch_distributed"}])
def test_the_first_host_leads_without_a_v2_distribution_though_the_group_is_unsorted(
    made: Callable[..., Cluster],
    options: dict[str, str],
) -> None:
    cluster = made(hosts=2, **options)
    assert cluster.job.leader_host == "algo-1"
    assert read(cluster, "algo-1", "resourceconfig.json")["instance_groups"][0]["hosts"] == ["algo-2", "algo-1"]


def test_torchrun_has_more_time_after_its_last_rank_than_its_agents_wait_for_each_other(
    made: Callable[..., Cluster], tmp_path: Path
) -> None:
    agent = importlib.import_module("torch.distributed.elastic.agent.server.api").SimpleElasticAgent
    barrier = inspect.signature(agent.__init__).parameters["exit_barrier_timeout"].default
    assert plan.make(made(hosts=2, distribution="torch_distributed"), tmp_path).patience > barrier


def test_v2_hyperparameters_are_json_and_name_the_script(made: Callable[..., Cluster]) -> None:
    cluster = made(
        "--epochs", "2", "--name", "a-b", distribution="mpi", processes_per_host=4, mpi_options=("-x", "A=1")
    )
    written = read(cluster, "algo-1", "hyperparameters.json")
    assert {name: json.loads(value) for name, value in written.items()} == {
        "epochs": 2,
        "name": "a-b",
        "sagemaker_program": "train.py",
        "sagemaker_submit_directory": str(cluster.base("algo-1") / "code"),
        "sagemaker_container_log_level": 20,
        "sagemaker_job_name": "job-1",
        "sagemaker_region": "us-east-1",
        "sagemaker_mpi_enabled": True,
        "sagemaker_mpi_num_of_processes_per_host": 4,
        "sagemaker_mpi_custom_mpi_options": "-x A=1",
    }


def test_v3_hyperparameters_are_the_users_alone(made: Callable[..., Cluster]) -> None:
    cluster = made("--epochs", "2", "--name", "a-b", sdk="v3")
    assert read(cluster, "algo-1", "hyperparameters.json") == {"epochs": "2", "name": "a-b"}


def test_channels_are_links_and_are_listed(made: Callable[..., Cluster], tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "x.csv").write_text("1\n")
    cluster = made(channels={"train": data})
    assert (cluster.base("algo-1") / "input/data/train/x.csv").read_text() == "1\n"
    assert list(read(cluster, "algo-1", "inputdataconfig.json")) == ["train"]


def test_a_channel_of_one_file_is_a_folder_as_in_a_job(made: Callable[..., Cluster], tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("1\n")
    cluster = made(channels={"train": tmp_path / "x.csv"})
    assert (cluster.base("algo-1") / "input/data/train/x.csv").read_text() == "1\n"


def test_a_sharded_channel_gives_each_host_every_nth_file_in_the_order_of_keys(
    made: Callable[..., Cluster], tmp_path: Path
) -> None:
    keys = ["b/1.csv", "B.csv", "a.csv", "b.csv", "\u00e9.csv"]
    for key in keys:
        path = tmp_path / "data" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(key)
    cluster = made(
        hosts=2, channels={"part": tmp_path / "data", "one": tmp_path / "data/a.csv"}, sharded=("part", "one")
    )
    found = {}
    for host in ("algo-1", "algo-2"):
        folder = cluster.base(host) / "input/data"
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert all(
            path.read_text() == path.relative_to(folder / "part").as_posix() for path in files if "part" in path.parts
        )
        found[host] = sorted(path.relative_to(folder).as_posix() for path in files)
        types = {name: one["S3DistributionType"] for name, one in read(cluster, host, "inputdataconfig.json").items()}
        assert types == {"part": "ShardedByS3Key", "one": "ShardedByS3Key"}
    # As bytes: B.csv, a.csv, b.csv, b/1.csv, and what is no ASCII.
    assert found == {
        "algo-1": ["one/a.csv", "part/B.csv", "part/b.csv", "part/\u00e9.csv"],
        "algo-2": ["part/a.csv", "part/b/1.csv"],
    }


def test_a_sharded_channel_that_is_none_is_an_error(made: Callable[..., Cluster]) -> None:
    with pytest.raises(SimulationError, match=r"sharded channel 'train' is none of the channels.*HINT: "):
        made(sharded=("train",))


def test_each_host_has_folders_of_its_own_and_the_users_source(made: Callable[..., Cluster]) -> None:
    cluster = made(hosts=2)
    for host in ("algo-1", "algo-2"):
        base = cluster.base(host)
        assert all((base / name).is_dir() for name in ("model", "output/data", "input/data"))
        assert (base / "code/train.py").read_text() == "print()"
        assert cluster.temporary(host).is_dir()


def test_a_job_without_a_checkpoint_configuration_has_neither_its_file_nor_its_folder(
    made: Callable[..., Cluster],
) -> None:
    base = made().base("algo-1")
    assert not (base / "checkpoints").exists()
    assert not (base / "input/config/checkpointconfig.json").exists()


def test_a_job_with_a_checkpoint_configuration_finds_a_copy_of_its_place_on_each_host(
    made: Callable[..., Cluster], tmp_path: Path
) -> None:
    (tmp_path / "kept/run").mkdir(parents=True)
    (tmp_path / "kept/run/last.ckpt").write_text("weights")
    cluster = made(hosts=2, place=CheckpointPlace(tmp_path / "kept"))
    for host in ("algo-1", "algo-2"):
        folder = cluster.base(host) / "checkpoints"
        assert read(cluster, host, "checkpointconfig.json")["LocalPath"] == str(folder)
        assert (folder / "run/last.ckpt").read_text() == "weights"
        assert not (folder / "run/last.ckpt").is_symlink()


def test_the_job_s_hyperparameters_are_the_arguments_that_they_can_carry(script: Callable[[str], Path]) -> None:
    job = Simulation(script(""), ("fit", "--lr=0.1", "--fast", "--epochs", "3"))
    assert job.hyperparameters == {"lr": 0.1, "epochs": 3}


def test_a_sharded_channel_has_what_a_linked_folder_holds(made: Callable[..., Cluster], tmp_path: Path) -> None:
    for folder in ("data", "elsewhere"):
        (tmp_path / folder).mkdir()
    (tmp_path / "elsewhere/a.csv").write_text("1")
    (tmp_path / "data/more").symlink_to(tmp_path / "elsewhere")
    cluster = made(channels={"part": tmp_path / "data"}, sharded=("part",))
    assert (cluster.base("algo-1") / "input/data/part/more/a.csv").read_text() == "1"


@pytest.mark.parametrize(
    ("visible", "shares"),
    [
        (None, {"algo-1": "0,1", "algo-2": "2,3"}),
        ("3,2,GPU-1a,0", {"algo-1": "3,2", "algo-2": "GPU-1a,0"}),
        ("0,1,2", None),
        ("", None),
        ("-1", None),
        ("0,1,-1,2,3", None),  # CUDA sees what stands before an index that there is not
    ],
)
def test_hosts_share_the_gpus_that_cuda_sees(
    script: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    visible: str | None,
    shares: dict[str, str] | None,
) -> None:
    listing = tmp_path / "nvidia-smi"
    listing.write_text('#!/bin/sh\nfor i in 0 1 2 3; do echo "GPU $i: NVIDIA H200 (UUID: GPU-$i)"; done\n')
    listing.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert share_devices(Simulation(script("print()"), hosts=2, processes_per_host=2)) == shares
