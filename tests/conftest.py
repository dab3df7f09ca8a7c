"""What tests of several modules share."""

from __future__ import annotations

import importlib.util
import itertools
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lightning_sagemaker import SageMakerJob
from lightning_sagemaker.simulate import container

from . import leftovers

if TYPE_CHECKING:
    from collections.abc import Callable

    MakeJob = Callable[..., SageMakerJob]

# They have an environment of their own, in which `make test` runs them.
collect_ignore = [] if importlib.util.find_spec("scipy") else ["benchmarks"]
collect_ignore += ["site"]  # in the environment of the pages: make site
collect_ignore += ["on_sagemaker"]  # run in a job: test_on_sagemaker.py simulates some


# What starts processes that import torch or an SDK, or waits for seconds: not in `make check`. A long drill has a
# marker of its own, `nightly`.
TRAINING = (
    "beside_stock/test_beside_stock.py",
    "checkpoint/test_kill.py",
    "checkpoint/test_ranks.py",
    "checkpoint/test_trainer.py",
    "checkpoint/test_transfer.py",
    "cluster",
    "distributed/test_connection.py",
    "distributed/test_failure_file.py",
    "distributed/test_heartbeat.py",
    "distributed/test_interface.py",
    "distributed/test_main_address.py",
    "distributed/test_peer_connections.py",
    "distributed/test_peer_notifier.py",
    "distributed/test_rendezvous.py",
    "distributed/test_shutdown.py",
    "distributed/test_sigterm.py",
    "distributed/test_strangers.py",
    "distributed/test_wait_for_ranks.py",
    "docs/test_pages.py",
    "doctor/test_command.py",
    "gpu",
    "jobs",
    "launch",
    "locking/test_fork.py",
    "locking/test_identity.py",
    "locking/test_kill.py",
    "locking/test_lightning.py",
    "metrics/test_bars.py",
    "metrics/test_jobs.py",
    "metrics/test_trainer.py",
    "patches/test_fabric.py",
    "patches/test_process_group.py",
    "patches/test_rank_zero.py",
    "simulate",
    "smddp/test_features.py",
    "metrics/test_log_reduction.py",
    "smddp/test_training.py",
    "smddp/test_waiting.py",
    "submit",
    "test_autoload.py",
    "test_examples.py",
    "test_leftovers.py",
    "test_on_sagemaker.py",
    "test_package.py",
    "variables",
)
# Where it is not the only one.
_OTHER_DISTRIBUTION = "pytorch_lightning|lightning_fabric" if importlib.util.find_spec("lightning") else "(?!)"
# What repeats, with another launcher or more processes, what its neighbours show: `make test-all` only. By file, parts
# of names as regular expressions; some tests have the marker `nightly` of their own.
NIGHTLY = {
    "beside_stock/test_beside_stock.py": "spawned_ranks|own_torchrun_on_two_hosts",
    "benchmarks/test_run.py": "faults|start-up|locking|lines|checkpoints|scale|rendezvous|logging_is|collectives_are",
    "checkpoint/test_trainer.py": _OTHER_DISTRIBUTION,
    "cluster/test_benchmark.py": "",
    "cluster/test_faults.py": "lost_packets|come_late|killed_rank|pulled_cable|peer_ports",
    "cluster/test_glue.py": r"v3|\[none|in_stock\[mpi|torchrun",
    "cluster/test_own_disks.py": "",
    "cluster/test_submitted.py": "v3| as (torch_distributed|smdistributed|mpi)",
    "cluster/test_training.py": r"v3|two_hosts|four_hosts|spot_restart|world\[(none|mpi)",
    "distributed/test_failure_file.py": r"every_host.*\[exit",
    "distributed/test_heartbeat.py": r"\[before it has told|of_a_single_host|exception_of_a_forked",
    "distributed/test_shutdown.py": r"code\[(exit|destroy)",
    "distributed/test_sigterm.py": "hosts=2, processes=1|smdistributed",
    "distributed/test_strangers.py": "a_training_among",
    "doctor/test_command.py": "simulated_hosts",
    "gpu/test_gpu.py": "",
    "job/test_mark_alone.py": r"\[TRAINING_JOB_ARN",
    "launch/test_moving.py": "under_mpirun",
    "launch/test_notebook.py": "",
    "launch/test_remote.py": "",
    "launch/test_second_groups.py": r"\[2-1",
    "launch/test_shards.py": r"\[torchrun|by_itself",
    "learning_rate/test_callback.py": rf"a_job_of_two.*({_OTHER_DISTRIBUTION})",
    "locking/test_lightning.py": "ranks_that_lightning_starts|both_guards",
    "locking/test_node_lock.py": r"inside\[64",
    "locking/test_once_per_node.py": r"\[64",
    "metrics/test_jobs.py": rf"smddp|none|torch_distributed|{_OTHER_DISTRIBUTION}",
    "metrics/test_log_reduction.py": rf"-4[-\]]|\[gloo|between_its_logs|{_OTHER_DISTRIBUTION}",
    "patches/test_environment.py": rf"off_switch.*({_OTHER_DISTRIBUTION})",
    "patches/test_fabric.py": _OTHER_DISTRIBUTION,
    "patches/test_process_group.py": rf"imported after|{_OTHER_DISTRIBUTION}",
    "patches/test_rank_zero.py": _OTHER_DISTRIBUTION,
    "simulate/fake_smddp/test_limits.py": r"\[torchrun",
    "simulate/fake_smddp/test_training.py": "",
    "simulate/test_interruption.py": "torchrun",
    "simulate/test_mpirun.py": r"any_distribution|variables\[v2-(mpi|pytorchddp)",
    "simulate/test_own_disks.py": "best_checkpoint|torchrun-4",
    "simulate/test_real_drivers.py": r"torch_distributed-2\]",
    "simulate/test_real_toolkit.py": r"none-1\]|torch_distributed-2\]",
    "simulate/test_rehearsal.py": r"weights\[[1-9]",
    "simulate/test_supervision.py": r"torch_distributed(\]|-raise|-kill|-2-130)",
    "smddp/test_strategies.py": rf"fabric_run.*({_OTHER_DISTRIBUTION})",
    "smddp/test_training.py": rf"-4[-\]]|{_OTHER_DISTRIBUTION}",
    "submit/test_aws_checks.py": r"whichever_is_installed\[v2",
    "submit/test_examples.py": "",
    "submit/test_sending.py": r"is_sent\[v2",
    "test_examples.py": "fabric_shares|options_of_the_cli",
    "test_leftovers.py": r"\[15-test_(waits|ends_slowly-a)|\[2-test_(ends_slowly|waits-one)",
    "test_on_sagemaker.py": "under_mpirun|what_is_broken",
    "test_quick_imports.py": "import torch|trace_rules|FakeTensorMode|optimize_ddp|_meta_registrations",
    "test_autoload.py": r"every_order.*\[import (lightning[-.]|lightning, pyt|pytorch_lightning[.,]|torch, pyt)"
    r"|suffices.*lightning_fabric",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what :data:`TRAINING` and :data:`NIGHTLY` name."""
    here = Path(__file__).parent
    if gone := [name for name in (*TRAINING, *NIGHTLY) if not (here / name).exists()]:
        raise pytest.UsageError(f"tests/conftest.py names {gone}, which are not in tests/")
    for path, of_file in itertools.groupby(items, lambda item: item.path):
        name = path.relative_to(here).as_posix()
        trains, drill = f"{name}/".startswith(tuple(f"{known}/" for known in TRAINING)), NIGHTLY.get(name)
        for item in of_file:
            if trains:
                item.add_marker("training")
            if drill is not None and re.search(drill, item.name):
                item.add_marker("nightly")


def pytest_configure(config: pytest.Config) -> None:
    """Leave nothing behind."""
    config.pluginmanager.register(leftovers, "leftovers")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse versions of pytest in which xdist's groups do nothing, as in 9.2: what tests share is made many times."""
    if hasattr(session.config, "workerinput"):
        for item in session.items:
            if item.get_closest_marker("xdist_group") and "@" not in item.nodeid:
                raise pytest.UsageError(f"pytest {pytest.__version__} ignores xdist_group. HINT: see constraints.txt")


_JOB = SageMakerJob(
    name="digits",
    sdk="v2",
    launcher="none",
    hosts=("algo-1", "algo-2"),
    world_hosts=("algo-2", "algo-1"),
    current_host="algo-1",
    instance_type="ml.p4d.24xlarge",
    instance_group=None,
    network_interface="eth0",
    num_nodes=2,
    node_rank=1,
    local_world_size=1,
    local_rank=0,
    rank=1,
    world_size=2,
    main_address="127.0.0.1",
    main_port=7777,
)


@pytest.fixture
def make_job() -> MakeJob:
    """Make a job of two hosts, seen from the one that is not rank 0's, with some fields changed."""

    def make_job(**changes: object) -> SageMakerJob:
        return replace(_JOB, **changes)  # type: ignore[arg-type]

    return make_job


@pytest.fixture
def free_port() -> int:
    """A port on which nobody listens."""
    return container.free_port()
