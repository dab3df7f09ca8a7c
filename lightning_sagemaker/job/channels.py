"""``inputdataconfig.json``: the job's input channels, and those of which each host gets its own part of the files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_sagemaker.job.resources import config_text
from lightning_sagemaker.job.values import DAMAGED, json_value, shown, some

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

SHARDED = "ShardedByS3Key"  # value of `S3DistributionType`; the default is FullyReplicated
_FILE = "inputdataconfig.json"


def sharded_channels(environ: Mapping[str, str], config_dir: str | Path | None = None) -> tuple[str, ...]:
    """Names of the channels that are ``ShardedByS3Key``; empty if the channels are unknown.

    ``SM_INPUT_DATA_CONFIG``, which holds the same, is read where there is no such file.
    """
    holds = "It lists the input channels of the SageMaker training job."
    where, text = config_text(environ, config_dir, _FILE, "SM_INPUT_DATA_CONFIG", holds)
    channels = json_value(text, where) if text else None
    if channels is None:
        return ()  # a job without channels
    if not isinstance(channels, dict):
        raise ValueError(f"{where} holds {shown(channels)}; expected a JSON object. {DAMAGED}")
    for name, settings in channels.items():
        if not isinstance(settings, dict) or not isinstance(settings.get("S3DistributionType", ""), str | None):
            raise ValueError(
                f"Channel {shown(name)} in {where} is {shown(settings)}; expected an object whose `S3DistributionType`"
                f" is a string. {DAMAGED}"
            )
    return tuple(name for name, settings in channels.items() if settings.get("S3DistributionType") == SHARDED)


def dropped_rows(channels: Sequence[str], num_hosts: int) -> str:
    """The warning about sharded channels in a world of several hosts, with the solutions; shared by all callers."""
    return (
        f"Input channel(s) {some(channels)} are {SHARDED}: each of the {num_hosts} hosts has its own part of the files,"
        " and the distributed sampler that Lightning puts in would give it only a share of that part, so rows are"
        " silently dropped. HINT: (a) for all hosts to see all data: FullyReplicated, the default, for the channel;"
        " (b) for one training over the parts: Trainer(use_distributed_sampler=False) and, in the DataLoader,"
        " DistributedSampler(data, num_replicas=trainer.num_devices, rank=trainer.local_rank); (c) for each host to"
        " work by itself, as in batch prediction: Trainer(plugins=[LightningEnvironment()], devices=1, num_nodes=1)."
    )
