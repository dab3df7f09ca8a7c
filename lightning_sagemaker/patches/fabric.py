"""An error for Fabric without ``launch()``, which is required if several hosts train together."""

from __future__ import annotations

from typing import Any

from lightning_sagemaker.environment import SageMakerEnvironment
from lightning_sagemaker.patches import wrap


def patch_fabric(module: Any) -> None:
    """Say why ``launch()`` is needed now: Lightning's error speaks of more than one device."""

    @wrap(module.Fabric, "_validate_launched", always=True)
    def _validate_launched(validate: Any, fabric: Any) -> None:
        try:
            validate(fabric)
        except RuntimeError as error:
            environment = getattr(fabric.strategy, "cluster_environment", None)
            if not isinstance(environment, SageMakerEnvironment) or environment.job.num_nodes == 1:
                raise
            raise RuntimeError(
                f"Fabric was not launched, and {environment.job.num_nodes} hosts of this SageMaker job train together,"
                f" also where each has one device: {environment.job!r}. HINT: call `fabric.launch()` right after"
                " `Fabric(...)`; for hosts that work by themselves, Fabric(plugins=[LightningEnvironment()],"
                " num_nodes=1)."
            ) from error
