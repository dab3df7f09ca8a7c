"""What ``import torch`` calls (entry point ``torch.backends``): watch for Lightning's modules, nothing else.

At that moment Lightning is often half-imported, and an exception here would make ``import torch`` itself fail. So this
file uses the standard library only, imports neither torch nor Lightning, and lets nothing escape. In training jobs
every interpreter may run it at its start (`.pth`), pip and the toolkit too: what takes milliseconds is imported where
it is needed.
"""

from __future__ import annotations

import os
import sys
from _thread import get_ident

TYPE_CHECKING = False  # type checkers go by the name; `typing` takes longer to import than all of this
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_SWITCH = "LIGHTNING_SAGEMAKER_AUTOLOAD"  # as in `settings`, which is imported only where it is set
_FABRIC = ("lightning.fabric", "lightning_fabric")
_PYTORCH = ("lightning.pytorch", "pytorch_lightning")
_CONNECTORS, _LOGGERS = "trainer.connectors", "trainer.connectors.logger_connector"
_PROCESS_GROUP = "environment gloo_interface rendezvous group_keys heartbeat failure_file quiet_end same_checkpoint"
# Modules of Lightning, torch and SageMaker's SDK; the functions in `patches` that each is given to once it is executed,
# and the changes of which that patch is a part: one of them has to be on.
_MODULES: dict[str, dict[str, str]] = {
    f"{package}.{module}": patches
    for packages, module, patches in (
        (_FABRIC, "utilities.rank_zero", {"rank_zero.patch_rank_zero": "rank_zero"}),
        (
            _PYTORCH,
            "trainer.trainer",
            {
                "trainer.patch_arguments": "environment progress_bar export",
                "trainer.patch_run": "export failure_file",
                "checkpoints.patch_save_checkpoint": "resume",
            },
        ),
        (_FABRIC, "connector", {"environment.patch_connector": "environment world_check shards"}),
        (
            _PYTORCH,
            f"{_CONNECTORS}.accelerator_connector",
            {"environment.patch_connector": "environment world_check shards"},
        ),
        (_PYTORCH, f"{_CONNECTORS}.callback_connector", {"metrics.patch_callback_connector": "progress_bar"}),
        (_PYTORCH, f"{_LOGGERS}.logger_connector", {"metrics.patch_logger_connector": "metric_lines"}),
        (_PYTORCH, f"{_LOGGERS}.result", {"results.patch_result": "log_reduction"}),
        (_PYTORCH, f"{_CONNECTORS}.data_connector", {"preparation.patch_data_connector": "prepare_data"}),
        (_FABRIC, "strategies", {"strategies.register_strategies": "strategies"}),
        (
            _PYTORCH,
            "strategies",
            {"strategies.register_strategies": "strategies", "results.patch_strategies": "log_reduction"},
        ),
        (
            _PYTORCH,
            f"{_CONNECTORS}.signal_connector",
            {"process_group.patch_signal_connector": "heartbeat", "signals.patch_signal_connector": "sigterm"},
        ),
        (
            _PYTORCH,
            f"{_CONNECTORS}.checkpoint_connector",
            {
                "checkpoints.patch_checkpoint_connector": "resume",
                "same_checkpoint.patch_checkpoint_connector": "same_checkpoint",
            },
        ),
        (_PYTORCH, "strategies.strategy", {"same_checkpoint.patch_strategy": "same_checkpoint"}),
        (
            _FABRIC + _PYTORCH,
            "strategies.launchers.multiprocessing",
            {"launched.patch_launcher": "environment sigterm failure_file resume"},
        ),
        (_FABRIC + _PYTORCH, "strategies.deepspeed", {"process_group.patch_deepspeed": "environment"}),
        (_PYTORCH, "core.saving", {"same_checkpoint.patch_saving": "same_checkpoint"}),
        (
            _FABRIC,
            "fabric",
            {"same_checkpoint.patch_fabric": "same_checkpoint", "environment.patch_fabric": "environment"},
        ),
        (
            _PYTORCH,
            "callbacks.model_checkpoint",
            {"checkpoints.patch_model_checkpoint": "resume checkpoint_hint"},
        ),
        (_FABRIC, "utilities.cloud_io", {"checkpoints.patch_atomic_save": "checkpoint_writing"}),
        (_PYTORCH, "loops.training_epoch_loop", {"signals.patch_training_epoch_loop": "sigterm"}),
        (
            _FABRIC,
            "utilities.distributed",
            {
                "preparation.patch_infinite_barrier": "prepare_barrier prepare_data",
                "process_group.patch_init_dist_connection": _PROCESS_GROUP,
            },
        ),
        (("sagemaker", "sagemaker.core"), "remote_function.errors", {"remote.patch_errors": "failure_file"}),
        (
            ("torch.distributed.elastic.rendezvous",),
            "static_tcp_rendezvous",
            {"process_group.patch_static_rendezvous": "rendezvous failure_file"},
        ),
    )
    for package in packages
}
_unfinished: list[ModuleType] = []


def autoload() -> None:
    """Let Lightning find SageMaker, now if it is imported, else when it is.

    ``LIGHTNING_SAGEMAKER_AUTOLOAD=0`` prevents it. Any number of calls has the effect of one. Never raises.
    """
    try:
        if _is_switched_off() or any(isinstance(finder, _LightningFinder) for finder in sys.meta_path):
            return
        sys.meta_path.insert(0, _LightningFinder())
        for name in _MODULES.keys() & sys.modules.keys():
            module = sys.modules[name]
            if getattr(module.__spec__, "_initializing", False):  # it is what imports torch right now
                _unfinished.append(module)
            else:
                _activate(module)
    except Exception:  # noqa: BLE001 - `import torch` must not fail because of a plugin
        _complain("lightning-sagemaker could not be loaded.")


def activate_unfinished() -> None:
    """Serve modules that were half-imported when torch called: ``lightning.fabric.fabric``, where that imports torch.

    Called when a Trainer or Fabric is made, before anything of theirs can be used.
    """
    while _unfinished:
        _activate(_unfinished.pop())


def _is_switched_off() -> bool:
    if not os.environ.get(_SWITCH):
        return False
    from lightning_sagemaker.settings import switch

    try:
        return not switch(_SWITCH)
    except ValueError as error:  # no reason to train without hosts and ranks
        import logging

        logging.getLogger("lightning_sagemaker").warning("lightning-sagemaker stays on: %s", error)
        return False


class _LightningFinder:
    """Finds some modules of Lightning as the other finders do, and has them served once they are executed."""

    def __init__(self) -> None:
        self._searches: set[tuple[int, str]] = set()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        search = (get_ident(), fullname)
        if fullname not in _MODULES or search in self._searches:
            return None  # the latter in our own loop, or in that of another finder which asks all the others
        self._searches.add(search)
        try:
            for finder in tuple(sys.meta_path):
                find = getattr(finder, "find_spec", None)
                spec = find(fullname, path, target) if find else None
                if spec is not None:
                    _activate_after_execution(spec)
                    return spec  # type: ignore[no-any-return]
            return None
        finally:
            self._searches.discard(search)


def _activate_after_execution(spec: ModuleSpec) -> None:
    try:
        loader = spec.loader
        execute = loader.exec_module  # type: ignore[union-attr]

        def exec_module(module: ModuleType) -> None:
            execute(module)
            if module.__name__ in _MODULES:  # one loader serves many modules of a zip file
                _activate(module)

        loader.exec_module = exec_module  # type: ignore[union-attr,method-assign]
    except Exception:  # noqa: BLE001 - `import lightning` must not fail because of a plugin
        _complain("lightning-sagemaker cannot watch the import of %s.", spec.name)


def _activate(module: ModuleType) -> None:
    for path, changes in _MODULES[module.__name__].items():
        home, _, function = path.partition(".")
        try:
            from importlib import import_module

            from lightning_sagemaker.changes import is_on

            if any(is_on(change) for change in changes.split()):
                patches = import_module("lightning_sagemaker.patches")
                patch = getattr(import_module(f"lightning_sagemaker.patches.{home}"), function)
                with patches.all_or_none():
                    patch(module)
        except Exception:  # noqa: BLE001 - the others do without it
            _complain(
                "lightning-sagemaker cannot serve %s: is this Lightning older than 2.2 or newer than known?", module
            )


def _complain(message: str, *arguments: object) -> None:
    try:
        import logging

        logging.getLogger("lightning_sagemaker").warning(
            "%s HINT: LIGHTNING_SAGEMAKER_AUTOLOAD=0 switches it off; please report the following.",
            message % arguments,
            exc_info=sys.exc_info(),
        )
    except Exception:  # noqa: BLE001, S110 - a handler of the user's may raise
        pass
