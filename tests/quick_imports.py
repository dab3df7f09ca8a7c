"""Imports of torch, Lightning and the SDK without searches for garbage, in each interpreter of the tests (`.pth`).

While they are imported there is no search, and what they have made is in no later one: the searches take 0.9 of the
2.5 CPU seconds of a process that only imports Lightning, and half of one that imports the SDK; hundreds of the tests'
processes begin so. What a script makes is searched when it always is. `make test-all` and `make wheel-suite` do
without.
"""

from __future__ import annotations

import gc
import sys

TYPE_CHECKING = False  # `typing` takes longer to import than all of this
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


class _Finder:
    """Finds these packages as the other finders do."""

    def __init__(self, *names: str) -> None:
        self._names = set(names)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in self._names:
            return None
        self._names.discard(name)
        searches = [getattr(finder, "find_spec", None) for finder in sys.meta_path if finder is not self]
        spec = next(filter(None, (search(name, path, target) for search in searches if search)), None)
        if spec is not None and spec.loader is not None:
            _execute_without_collections(spec)
        return spec


def _execute_without_collections(spec: ModuleSpec) -> None:
    execute = spec.loader.exec_module  # type: ignore[union-attr]

    def exec_module(module: ModuleType) -> None:
        is_outermost = gc.isenabled()
        gc.disable()
        try:
            execute(module)
        finally:
            if is_outermost:
                gc.freeze()
                gc.enable()

    spec.loader.exec_module = exec_module  # type: ignore[union-attr,method-assign]


_LIGHTNING = ("lightning", "pytorch_lightning", "lightning_fabric")
_SDK = ("sagemaker", "sagemaker.train.model_trainer")  # v2 and v3
sys.meta_path.insert(0, _Finder("torch", *_LIGHTNING, *_SDK))
