"""Registration of our strategies, in the registries of Trainer and Fabric."""

from __future__ import annotations

import functools
from typing import Any

from lightning_sagemaker.patches import wrap
from lightning_sagemaker.smddp.availability import STRATEGIES


def register_strategies(module: Any) -> None:
    """Add our strategies to a registry of Lightning; names that are taken stay as they are."""
    package = module.__name__.removesuffix(".strategies")
    registry = module.STRATEGY_REGISTRY if package.endswith("fabric") else module.StrategyRegistry
    ours = {name: named for name, named in STRATEGIES.items() if name not in registry}
    for name, named in ours.items():
        factory = functools.partial(_create_strategy, package, named.sharding)
        registry.register(name, factory, description=named.description, **named.options)

    @wrap(registry, "register", always=True)
    def register_over_ours(register: Any, /, name: str, *args: Any, **kwargs: Any) -> Any:
        # NeMo registers `smddp` without `override`, which would fail because of us.
        if name in ours and registry[name]["description"] == ours[name].description:
            registry.remove(name)
        return register(name, *args, **kwargs)


def _create_strategy(package: str, sharding: str, **kwargs: Any) -> Any:
    from lightning_sagemaker.smddp.strategies import strategy_class

    return strategy_class(package, sharding)(**kwargs)
