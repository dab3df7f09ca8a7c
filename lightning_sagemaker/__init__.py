"""PyTorch Lightning on Amazon SageMaker without glue.

Importing this package is never needed - torch does it - and always allowed. It imports neither torch nor Lightning.
"""

from __future__ import annotations

from lightning_sagemaker._autoload import autoload

TYPE_CHECKING = False  # type checkers go by the name; see `_autoload`
if TYPE_CHECKING:
    from typing import Any

    from lightning_sagemaker.checkpoint import latest_checkpoint
    from lightning_sagemaker.environment import SageMakerEnvironment
    from lightning_sagemaker.job import SageMakerJob
    from lightning_sagemaker.learning_rate import LearningRateScaling, scale_learning_rate
    from lightning_sagemaker.locking import SerialSetup, node_lock, once_per_node

    SMDDPStrategy: Any
    SMDDPFSDPStrategy: Any
    __version__: str

__all__ = [
    "LearningRateScaling",
    "SMDDPFSDPStrategy",
    "SMDDPStrategy",
    "SageMakerEnvironment",
    "SageMakerJob",
    "SerialSetup",
    "latest_checkpoint",
    "node_lock",
    "once_per_node",
    "scale_learning_rate",
]

_HOMES = {
    "checkpoint": ("latest_checkpoint",),
    "environment": ("SageMakerEnvironment",),
    "job": ("SageMakerJob",),
    "learning_rate": ("LearningRateScaling", "scale_learning_rate"),
    "locking": ("SerialSetup", "node_lock", "once_per_node"),
}

autoload()


if not TYPE_CHECKING:  # else every misspelled name would have a type

    def __getattr__(name: str) -> object:
        from importlib import import_module

        if name == "__version__":
            from importlib.metadata import version  # slow, and each `from lightning_sagemaker import ...` comes here

            return version("lightning-sagemaker")
        for home, names in _HOMES.items():
            if name in names:
                return getattr(import_module(f"lightning_sagemaker.{home}"), name)
        if name in __all__:
            strategies = import_module("lightning_sagemaker.smddp.strategies")
            return strategies.class_by_name(name, "lightning.pytorch", "pytorch_lightning")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
