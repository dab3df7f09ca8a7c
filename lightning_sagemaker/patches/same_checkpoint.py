"""All ranks load the same checkpoint. In SageMaker training jobs."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.job import is_training_job
from lightning_sagemaker.patches import first_time

if TYPE_CHECKING:
    from types import ModuleType


def patch_checkpoint_connector(module: ModuleType) -> None:
    """Let ranks compare what they are about to load.

    Args:
        module: ``*.trainer.connectors.checkpoint_connector`` of either distribution.
    """
    connector_class = module._CheckpointConnector
    if not is_training_job(os.environ) or not first_time(connector_class, "same"):
        return
    start = connector_class.resume_start

    @functools.wraps(start)
    def resume_start(connector: Any, checkpoint_path: Any = None, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        trainer = connector.trainer
        if str(getattr(trainer.state.fn, "value", None)) == "fit" and trainer.world_size > 1:
            from lightning_sagemaker.checkpoint.resume import agree  # noqa: PLC0415 - imports torch

            agree(checkpoint_path)
        start(connector, checkpoint_path, *args, **kwargs)

    connector_class.resume_start = resume_start


def patch_fabric(module: ModuleType) -> None:
    """Let ``Fabric.load`` find a file that another host has written.

    Args:
        module: ``*fabric.fabric`` of either distribution.
    """
