"""The strategies by name, as Lightning's registries and ``PL_TRAINER_STRATEGY`` know them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from lightning_sagemaker.smddp.availability import Sharding


class Named(NamedTuple):
    """The meaning of a strategy's name."""

    sharding: Sharding
    options: dict[str, Any]
    description: str


STRATEGIES = {
    "smddp": Named("replicated", {}, "DDP over AWS's SMDDP collectives"),
    **{
        f"smddp_find_unused_parameters_{str(find).lower()}": Named(
            "replicated",
            {"find_unused_parameters": find},
            f"DDP over AWS's SMDDP collectives with `find_unused_parameters={find}`",
        )
        for find in (True, False)
    },
    "smddp_fsdp": Named("sharded", {}, "FSDP over AWS's SMDDP collectives"),
}


def sharding_of(strategy: str | None) -> Sharding | None:
    """The SMDDP collective that a strategy uses; ``None`` if it uses none."""
    named = STRATEGIES.get(strategy or "")
    return None if named is None else named.sharding
