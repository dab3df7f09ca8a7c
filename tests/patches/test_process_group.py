"""How Lightning's process group, and torchrun's agents, come to ours. Nothing here waits for a second process."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., subprocess.CompletedProcess[str]]

WORLD = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1", "GROUP_RANK": "0"}
FABRICS = [
    pytest.param(name, marks=pytest.mark.skipif(importlib.util.find_spec(top) is None, reason=f"no `{top}` here"))
    for name, top in (("lightning.fabric", "lightning"), ("lightning_fabric", "lightning_fabric"))
]
HAS_LIGHTNING = importlib.util.find_spec("lightning") is not None


@pytest.fixture
def run(tmp_path: Path, free_port: int) -> Run:
    """Run code in a job of one process."""
    (tmp_path / "input" / "config").mkdir(parents=True)
    (tmp_path / "input" / "config" / "resourceconfig.json").write_text(
        '{"current_host": "algo-1", "hosts": ["algo-1"]}'
    )
    foreign = ("SM_", "SAGEMAKER", "TRAINING_JOB", "LIGHTNING_SAGEMAKER", "GLOO_")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}

    def run(code: str, *command: str, **environ: str) -> subprocess.CompletedProcess[str]:
        path = tmp_path / "train.py"
        path.write_text(code)
        job = {"TRAINING_JOB_NAME": "digits", "SAGEMAKER_BASE_DIR": str(tmp_path), "MASTER_ADDR": "127.0.0.1"}
        return subprocess.run(
            [sys.executable, *command, str(path)],
            env=plain | job | {"MASTER_PORT": str(free_port)} | environ,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )

    return run


@pytest.mark.parametrize("fabric", FABRICS)
@pytest.mark.parametrize("early", [True, False], ids=["found by torch", "imported after Lightning"])
def test_the_function_that_makes_the_group_is_wrapped_wherever_lightning_keeps_it(
    run: Run, fabric: str, early: bool
) -> None:
    code = f"""
import {fabric}.strategies.ddp as ddp, {fabric}.strategies.fsdp as fsdp, {fabric}.utilities.distributed as home
import lightning_sagemaker
functions = {{module._init_dist_connection for module in (ddp, fsdp, home)}}
print(len(functions), hasattr(functions.pop(), "__wrapped__"))
"""
    off = {} if early else {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}
    done = run(code, **off)
    assert done.stdout.split() == ["1", "True"], done.stderr


@pytest.mark.parametrize("fabric", FABRICS)
def test_outside_a_job_the_function_stays_lightning_s(run: Run, fabric: str) -> None:
    code = f"import {fabric}.utilities.distributed as home\nprint(hasattr(home._init_dist_connection, '__wrapped__'))"
    assert run(code, TRAINING_JOB_NAME="").stdout.split() == ["False"]


@pytest.mark.parametrize("environment", ["SageMakerEnvironment", "TorchElasticEnvironment"])
def test_a_group_of_one_host_is_made_in_torch_s_own_way(run: Run, environment: str) -> None:
    code = f"""
import torch, torch.distributed as dist
from lightning.fabric import Fabric
from lightning.fabric.plugins.environments import TorchElasticEnvironment
from lightning_sagemaker import SageMakerEnvironment
init, given = dist.init_process_group, []
dist.init_process_group = lambda *args, **options: (given.append(options), init(*args, **options))
Fabric(accelerator="cpu", devices=1, strategy="ddp", plugins=[{environment}()]).launch()
print("store" in given[0])
"""
    done = run(code, **WORLD, GROUP_WORLD_SIZE="1", TORCHELASTIC_RUN_ID="none")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["False"], done.stderr


@pytest.mark.parametrize("fabric", FABRICS)
def test_a_strategy_that_says_where_the_ranks_meet_is_left_to_it(run: Run, fabric: str, tmp_path: Path) -> None:
    """torch refuses `init_method` beside a store."""
    code = f"""
import torch.distributed as dist
import {fabric}.utilities.distributed as home
from lightning_sagemaker import SageMakerEnvironment
from lightning_sagemaker.distributed import rendezvous
rendezvous.watched = None
home._init_dist_connection(SageMakerEnvironment(), "gloo", 0, 1, init_method="file://{tmp_path}/meeting")
print(dist.get_world_size())
"""
    done = run(code, **WORLD)
    assert done.stdout.split() == ["1"], done.stderr


def test_torchrun_s_agents_meet_by_ours_and_only_in_a_job(run: Run) -> None:
    code = """
from torch.distributed.elastic.rendezvous.static_tcp_rendezvous import StaticTCPRendezvous
print(hasattr(StaticTCPRendezvous.next_rendezvous, "__wrapped__"))
"""
    assert run(code).stdout.split() == ["True"]
    assert run(code, TRAINING_JOB_NAME="").stdout.split() == ["False"]


def test_an_agent_of_a_single_host_makes_its_store_as_ever(free_port: int) -> None:
    rendezvous = importlib.import_module("lightning_sagemaker.distributed.rendezvous")
    assert rendezvous.rendezvous_of_agents("127.0.0.1", free_port, 0, 1, timedelta(seconds=5)) is None


def test_what_a_host_s_variables_say_of_a_rank_is_none_of_the_agents_business(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free_port: int
) -> None:
    (tmp_path / "input" / "config").mkdir(parents=True)
    (tmp_path / "input" / "config" / "resourceconfig.json").write_text(
        '{"current_host": "algo-1", "hosts": ["algo-1", "algo-2"]}'
    )
    monkeypatch.setenv("TRAINING_JOB_NAME", "digits")
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    for name, value in {"NODE_RANK": "2", "RANK": "1", "LOCAL_RANK": "0", "WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    rendezvous = importlib.import_module("lightning_sagemaker.distributed.rendezvous")
    assert rendezvous.rendezvous_of_agents("127.0.0.1", free_port, 0, 3, timedelta(seconds=5)) is None  # not the job's


def test_the_progress_of_a_trainer_is_known_to_the_heartbeat_and_the_trainer_is_not_kept_alive(run: Run) -> None:
    code = """
import gc, weakref
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning_sagemaker.distributed import heartbeat
trainer = Trainer(accelerator="cpu", max_steps=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
before = heartbeat._progress()
trainer.fit(BoringModel())
after = heartbeat._progress()
alive = weakref.ref(trainer)
del trainer
gc.collect()
print(before, after, heartbeat._progress(), alive())
"""
    done = run(code)
    assert done.stdout.splitlines()[-1] == "(None, True) (3, False) (None, False) None", done.stderr


@pytest.mark.parametrize("package", [name for name in ("lightning.pytorch", "lightning.fabric") if HAS_LIGHTNING])
def test_a_child_of_a_rank_whose_group_deepspeed_makes_knows_that_it_is_none(run: Run, package: str) -> None:
    done = run(
        f"""
import os, subprocess, sys
from types import SimpleNamespace
sys.modules["deepspeed"] = SimpleNamespace(init_distributed=lambda *_, **__: None)
import lightning_sagemaker
from {package}.strategies.deepspeed import DeepSpeedStrategy
DeepSpeedStrategy._init_deepspeed_distributed(SimpleNamespace(
    cluster_environment=lightning_sagemaker.SageMakerEnvironment(),
    global_rank=0, world_size=2, local_rank=0, _process_group_backend="nccl", _timeout=None,
    _get_process_group_backend=lambda: "nccl",
    _set_node_environment_variables=lambda: os.environ.update(RANK="0", WORLD_SIZE="2", LOCAL_RANK="0"),
))
code = "from lightning_sagemaker.environment import is_started_by_rank; print(is_started_by_rank())"
print(subprocess.check_output([sys.executable, "-c", code], text=True).strip())
"""
    )
    assert done.stdout == "True\n", done.stderr
