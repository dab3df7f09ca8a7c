"""``SMDDPStrategy`` and ``SMDDPFSDPStrategy`` for Fabric; those for the Trainer are in the package itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    SMDDPStrategy: Any
    SMDDPFSDPStrategy: Any

__all__ = ["SMDDPFSDPStrategy", "SMDDPStrategy"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lightning_sagemaker.smddp.strategies import class_by_name

    return class_by_name(name, "lightning.fabric", "lightning_fabric")
