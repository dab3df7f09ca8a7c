"""Imports of torch, Lightning and the SDK for less, in each interpreter of the tests (`.pth`).

While they are imported there is no search for garbage, and what they have made is in no later one: the searches take
0.9 of the 2.5 CPU seconds of a process that only imports Lightning, and half of one that imports the SDK; hundreds of
the tests' processes begin so. What a script makes is searched when it always is.

torch's compiler, which Lightning imports to know its modules when it sees one, is imported when something is compiled
or asks for more than what eager code asks: that is another third. So it is with the shapes that operators return, which
torch imports for the compiler and for tensors without data: that is a quarter of the rest.

botocore reads the models of AWS's services, megabytes of JSON, anew in each session: 0.55 of the 0.78 CPU seconds of
each `submit` that a process of the tests runs after the first. Here it reads each file once.

The SDK checks, each time that it reads its configuration, by 30 a job, whether the schema of it is one: four fifths of
the CPU seconds in which it describes and sends a job. Here it does so once.

Lightning reads the entry points of all that is installed for each Trainer and Fabric: 9 of the milliseconds that one
takes. Here each process, with those that it forks, reads them once.

`make test-all` and `make wheel-suite` do without all this.
"""

from __future__ import annotations

import gc
import os
import sys
from functools import wraps
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import FunctionType, ModuleType

TYPE_CHECKING = False  # `typing` takes longer to import than all of this
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any


class _Finder:
    """Finds these packages as the other finders do, and executes them in another way."""

    def __init__(self, execute: Callable[[ModuleSpec], None], *names: str) -> None:
        self._execute, self._names = execute, set(names)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in self._names:
            return None
        self._names.discard(name)
        searches = [getattr(finder, "find_spec", None) for finder in sys.meta_path if finder is not self]
        spec = next(filter(None, (search(name, path, target) for search in searches if search)), None)
        if spec is not None and spec.loader is not None:
            self._execute(spec)
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


def _execute_and_then(change: Callable[[ModuleType], None]) -> Callable[[ModuleSpec], None]:
    def prepare(spec: ModuleSpec) -> None:
        execute = spec.loader.exec_module  # type: ignore[union-attr]

        def exec_module(module: ModuleType) -> None:
            execute(module)
            change(module)

        spec.loader.exec_module = exec_module  # type: ignore[union-attr,method-assign]

    return prepare


def _read_entry_points_once(metadata: ModuleType) -> None:
    known: dict[tuple[object, ...], Any] = {}
    read = metadata.entry_points

    def entry_points(**selection: str) -> Any:
        where = tuple((folder, _state(folder)) for folder in sys.path)
        if where not in known:
            known[where] = read()
        return known[where].select(**selection) if selection else known[where]

    metadata.entry_points = entry_points  # type: ignore[attr-defined]


def _state(folder: str) -> tuple[int, int] | None:
    try:
        found = os.stat(folder or ".")  # noqa: PTH116 - pathlib is imported later, or never
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _read_each_model_once(loaders: ModuleType) -> None:
    known: dict[str, Any] = {}
    read = loaders.JSONFileLoader.load_file

    def load_file(self: object, file_path: str) -> Any:
        if known.get(file_path) is None:  # it may not be there yet
            known[file_path] = read(self, file_path)
        return known[file_path]

    loaders.JSONFileLoader.load_file = load_file


def _check_each_schema_once(validators: ModuleType) -> None:
    checked: list[object] = []
    validator = validators.Draft202012Validator
    check = validator.check_schema

    def check_schema(schema: object, *arguments: Any, **options: Any) -> None:
        if not any(schema is one for one in checked):
            check(schema, *arguments, **options)
            checked.append(schema)  # which keeps it: no other one gets its place

    validator.check_schema = staticmethod(check_schema)


_COMPILER = "torch._dynamo"
_SHAPES = "torch._meta_registrations"
# Imported by them; cannot be the first to need them.
_AFTER_COMPILER = ("torch.distributed.fsdp", "torch.distributed.tensor")
_AFTER_SHAPES = ("torch._decomp", "torch._prims", "torch._refs", "torch.utils._content_store")


class _Compiler(ModuleType):
    """torch's compiler: answers what eager code asks as if nothing were compiled, and loads it for the rest."""

    def __init__(self) -> None:
        super().__init__(_COMPILER)
        self.__path__ = []  # :class:`_LateFinder` finds the submodules
        self.OptimizedModule = _OptimizedModule
        self.utils = _Part("utils", get_optimize_ddp_mode=lambda: "ddp_optimizer")  # DistributedDataParallel
        self.trace_rules = _Part("trace_rules", clear_lru_cache=lambda: None)  # destroy_process_group

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # `inspect` asks each module for its file, and Lightning `inspect` where it loads
            raise AttributeError(name)
        return getattr(_load_compiler(), name)

    @staticmethod
    def graph_break(*arguments: Any, **options: Any) -> None:
        """Steps of optimizers ask for it."""
        if _is_loaded():
            _load_compiler().graph_break(*arguments, **options)

    @staticmethod
    def disable(function: Any = None, *arguments: Any, **options: Any) -> Any:
        """Compile no calls of this function, as of methods of optimizers."""
        if not isinstance(function, FunctionType) or _is_loaded():
            return _load_compiler().disable(function, *arguments, **options)

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            called = _load_compiler().disable(function, *arguments, **options) if _is_loaded() else function
            return called(*args, **kwargs)

        return call


class _Part:
    """A submodule that is not imported yet."""

    def __init__(self, name: str, **answers: Callable[[], Any]) -> None:
        self._name, self._answers = name, answers

    def __getattr__(self, name: str) -> Any:
        if not _is_loaded() and name in self._answers:
            return self._answers[name]
        return getattr(getattr(_load_compiler(), self._name), name)


class _IsOptimized(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return _is_loaded() and isinstance(instance, _load_compiler().OptimizedModule)


class _OptimizedModule(metaclass=_IsOptimized):
    """The class of compiled modules: nothing is one before the compiler has been loaded."""


def _is_loaded() -> bool:
    return not isinstance(sys.modules[_COMPILER], _Compiler)


def _load_compiler() -> Any:
    if not _is_loaded():
        _load_shapes()  # it imports a part that cannot be the first to need them
        del sys.modules[_COMPILER]
    return import_module(_COMPILER)


class _Shapes(ModuleType):
    """The shapes that operators return, in Python: most operators know them in C++ too."""

    def __init__(self) -> None:
        super().__init__(_SHAPES)
        internal = sys.modules["torch._C"]
        if hasattr(internal, "_set_generator_metaclass"):  # what they import does it, and generators ask for it
            internal._set_generator_metaclass(import_module("torch._opaque_base").OpaqueBaseMeta)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the import system asks for some
            raise AttributeError(name)
        return getattr(_load_shapes(), name)


def _load_shapes() -> ModuleType:
    if isinstance(sys.modules[_SHAPES], _Shapes):
        del sys.modules[_SHAPES]
    return import_module(_SHAPES)


class _LateFinder:
    """Finds a module twice: first what stands for it, then, by the other finders, itself."""

    def __init__(
        self, name: str, late: Callable[[], ModuleType], load: Callable[[], object], before: tuple[str, ...]
    ) -> None:
        self._name, self._late, self._load, self._before = name, late, load, before
        self._stands: ModuleType | None = None

    def find_spec(
        self, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name == self._name and self._stands is None:
            self._stands = self._late()
            return _spec(self._stands)
        needs_it = name in self._before or name.startswith(f"{self._name}.")
        if needs_it and self._stands and sys.modules.get(self._name) is self._stands:
            self._load()
            import_module(name)
            return _spec(sys.modules.pop(name))  # who finds it there executes it again
        return None


def _spec(module: ModuleType) -> ModuleSpec:
    return ModuleSpec(module.__name__, _Loader(module))  # type: ignore[arg-type] # its base class is slow to import


class _Loader:
    """Gives a module that is there."""

    def __init__(self, module: ModuleType) -> None:
        self._module, self._spec = module, module.__spec__

    def create_module(self, _spec: ModuleSpec) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not self._spec is not None:  # torch's modules of settings let nobody set it
            module.__spec__ = self._spec


_LIGHTNING = ("lightning", "pytorch_lightning", "lightning_fabric")
_SDK = ("sagemaker", "sagemaker.train.model_trainer")  # v2 and v3
sys.meta_path.insert(0, _Finder(_execute_without_collections, "torch", _COMPILER, *_LIGHTNING, *_SDK))
sys.meta_path.insert(0, _Finder(_execute_and_then(_read_each_model_once), "botocore.loaders"))
sys.meta_path.insert(0, _Finder(_execute_and_then(_read_entry_points_once), "importlib.metadata"))
sys.meta_path.insert(0, _Finder(_execute_and_then(_check_each_schema_once), "jsonschema.validators"))
sys.meta_path.insert(0, _LateFinder(_COMPILER, _Compiler, _load_compiler, _AFTER_COMPILER))
sys.meta_path.insert(0, _LateFinder(_SHAPES, _Shapes, _load_shapes, _AFTER_SHAPES))
