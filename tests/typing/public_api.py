"""What a type checker says of the public names. Nothing here runs: `make types` reads it.

`assert_type` pins a type; an `ignore` pins an error, since `mypy --strict` reports one that is not needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lightning.pytorch import LightningDataModule
from typing_extensions import assert_type

import lightning_sagemaker
from lightning_sagemaker import (
    LearningRateScaling,
    SageMakerEnvironment,
    SageMakerJob,
    SerialSetup,
    SMDDPFSDPStrategy,
    SMDDPStrategy,
    latest_checkpoint,
    node_lock,
    once_per_node,
    scale_learning_rate,
)
from lightning_sagemaker.checkpoint import checkpoint_folder
from lightning_sagemaker.jobs import Download, Job, Line, Stop, download, follow, jobs, logs, stop
from lightning_sagemaker.jobs import job as job_of_the_account
from lightning_sagemaker.simulate import Result, simulate

if TYPE_CHECKING:
    from collections.abc import Callable


def job() -> None:
    found = SageMakerJob.detect({"TRAINING_JOB_NAME": "digits"}, Path("config"))
    assert_type(found, SageMakerJob | None)
    assert_type(SageMakerJob.detect(config_dir="config"), SageMakerJob | None)
    found.rank  # type: ignore[union-attr]  # noqa: B018 - there may be no job
    if found is not None:
        assert_type(found.name, str | None)
        assert_type(found.sdk, Literal["v2", "v3"] | None)
        assert_type(found.launcher, Literal["torchrun", "mpirun", "custom", "none"])
        assert_type(found.world_hosts, tuple[str, ...])
        assert_type(found.num_nodes, int)
        assert_type(found.world_size, int | None)
        assert_type(found.is_rank_zero, bool)
        found.rank = 0  # type: ignore[misc]  # frozen


def environment(found: SageMakerJob) -> None:
    one = SageMakerEnvironment(found)
    assert_type(SageMakerEnvironment.detect(), bool)
    assert_type(one.job, SageMakerJob)
    assert_type(one.main_address, str)
    assert_type(one.num_nodes(), int)
    assert_type(one.local_rank(), int)
    SageMakerEnvironment("algo-1")  # type: ignore[arg-type]


def locks() -> None:
    assert_type(once_per_node(lambda: "/tmp/tokenizer", key="tokenizer", timeout=600), str)  # noqa: S108 - a text
    assert_type(once_per_node(_count, key="count", retry=2), dict[str, int])

    @once_per_node(key="decorated")
    def decorated() -> list[str]:
        return []

    assert_type(decorated(), list[str])
    once_per_node(_count)  # type: ignore[call-overload]  # a key is needed
    once_per_node(len, key="arguments")  # type: ignore[arg-type]  # the work takes no arguments
    with node_lock("index", timeout=60) as nothing:
        assert_type(nothing, None)
    node_lock("index", 60)  # type: ignore[call-arg]  # by name only

    @node_lock("index")
    def build(folder: Path) -> int:
        return len(folder.name)

    assert_type(build(Path()), int)


class Data(SerialSetup, LightningDataModule):
    setup_timeout = 60.0

    def setup(self, stage: str) -> None:
        """A mixin does not hide Lightning's own methods."""


def data() -> None:
    assert_type(Data().prepare_data_per_node, bool)
    Data().setup()  # type: ignore[call-arg]  # the stage is missing


def checkpoints() -> None:
    assert_type(latest_checkpoint(), Path | None)
    assert_type(latest_checkpoint("folder"), Path | None)
    assert_type(checkpoint_folder(), Path | None)


def learning_rates() -> None:
    assert_type(scale_learning_rate(0.1, world_size=8, base_world_size=1, rule="sqrt"), float)
    scale_learning_rate(0.1, 8)  # type: ignore[call-arg]  # by name only
    scale_learning_rate(0.1, world_size=8, rule="square")  # type: ignore[arg-type]
    assert_type(LearningRateScaling(), LearningRateScaling)


def strategies() -> None:
    # Their bases are Lightning's classes of the distribution that is imported, which no checker can know.
    assert_type(SMDDPStrategy, Any)
    assert_type(SMDDPFSDPStrategy, Any)


def names() -> None:
    assert_type(lightning_sagemaker.__all__, list[str])


def _count() -> dict[str, int]:
    return {}


_DETECT: Callable[[], SageMakerJob | None] = SageMakerJob.detect


def life_of_jobs() -> None:
    assert_type(jobs(limit=None, status="Failed")[0], Job)
    found = job_of_the_account("digits")
    assert_type(found.cost, float | None)
    assert_type(found.instances[0].count, int)
    assert_type(logs("digits", host="algo-1", tail=20)[0], Line)
    assert_type(follow("digits"), int)
    assert_type(stop("digits", "speech", wait=True), list[Stop])
    assert_type(download("digits", "here", model=True), list[Download])
    job_of_the_account(7)  # type: ignore[arg-type]


def simulation() -> None:
    ended = simulate("train.py", ["--epochs", "2"], hosts=2, launcher="torchrun", interrupt_after=30, restart=True)
    assert_type(ended, Result)
    assert_type(ended.exit_code, int)
    simulate("train.py", launcher="mpi")  # type: ignore[arg-type]
    simulate("train.py", host=2)  # type: ignore[call-arg]
