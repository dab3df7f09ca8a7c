"""One line says that a distributed sampler would drop rows, where it would and nowhere else."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from lightning_sagemaker import SageMakerEnvironment, messages

from .connectors import LOG, QUIET, Distribution
from .connectors import clean as clean  # noqa: PLC0414 - fixtures
from .connectors import distribution as distribution  # noqa: PLC0414
from .connectors import job as job  # noqa: PLC0414
from .connectors import make as make  # noqa: PLC0414
from .connectors import part as part  # noqa: PLC0414

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Job = Callable[..., None]
    Make = Callable[..., Any]
    Lines = Callable[[], list[str]]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Lines:
    monkeypatch.setattr(messages, "_said", set())
    caplog.set_level(logging.WARNING, logger=LOG.name)
    return lambda: [one.getMessage() for one in caplog.records if one.name == LOG.name]


@pytest.fixture
def channel(tmp_path: Path) -> Callable[[str], None]:
    def channel(distribution: str) -> None:
        content = {
            "train": {"S3DistributionType": distribution},
            "validation": {"S3DistributionType": "FullyReplicated"},
        }
        path = tmp_path / "input" / "config" / "inputdataconfig.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))

    return channel


@pytest.mark.parametrize("launcher", ["torchrun", "mpirun", "none"])
def test_it_is_said_once_on_rank_zero(
    make: Make, job: Job, channel: Callable[[str], None], lines: Lines, launcher: str
) -> None:
    channel("ShardedByS3Key")
    job(launcher, rank=2, gpus=2)
    make()
    assert lines() == []
    job(launcher, gpus=2)
    make()
    make(plugins=[SageMakerEnvironment()])
    (line,) = lines()
    assert line.startswith("Input channel(s) train are ShardedByS3Key: each of the 2 hosts")


def test_other_rank_of_the_first_host_is_silent(
    make: Make, job: Job, channel: Callable[[str], None], lines: Lines
) -> None:
    channel("ShardedByS3Key")
    job("torchrun", rank=1)
    make()
    assert lines() == []


@pytest.mark.parametrize("case", ["replicated", "one host", "chosen environment", "off", "environment off"])
def test_where_no_row_is_dropped_nothing_is_said(
    *,
    make: Make,
    job: Job,
    channel: Callable[[str], None],
    lines: Lines,
    distribution: Distribution,
    case: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    channel("FullyReplicated" if case == "replicated" else "ShardedByS3Key")
    job("none", hosts=1 if case == "one host" else 2)
    if case.endswith("off"):
        monkeypatch.setenv("LIGHTNING_SAGEMAKER_DISABLE", "shards" if case == "off" else "environment")
    chosen = [distribution.get("fabric", "plugins.environments.LightningEnvironment")()]
    make(accelerator="cpu", **({"plugins": chosen} if case == "chosen environment" else {}))
    assert lines() == []


def test_a_script_that_samples_itself_is_told_nothing(
    distribution: Distribution, job: Job, channel: Callable[[str], None], lines: Lines
) -> None:
    channel("ShardedByS3Key")
    job("torchrun")
    distribution.get("pytorch", "Trainer")(use_distributed_sampler=False, **QUIET)
    assert lines() == []


@pytest.mark.parametrize("content", ['{"train": {"S3D', "[]", '{"train": 3}'])
def test_a_malformed_file_is_a_line_and_no_error(
    make: Make, job: Job, lines: Lines, tmp_path: Path, content: str
) -> None:
    job("torchrun")
    (tmp_path / "input" / "config" / "inputdataconfig.json").write_text(content)
    assert make().strategy.world_size == 4
    (line,) = lines()
    assert line.startswith("Whether a channel gives each host data of its own is unknown: ")
