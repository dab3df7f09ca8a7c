"""How a script ends: exit codes, signals, and whose handlers are called."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import time
from typing import Any

from lightning.pytorch.callbacks import Callback

from tests.beside_stock.model import Model, fitted, loader, trainer
from tests.beside_stock.registry import ANY, situation


def say(*words: object) -> None:
    print(*words, flush=True)


class Does(Callback):
    """Does something before the third batch, and says which hooks it sees."""

    def __init__(self, action: Any) -> None:
        self.action = action

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == 2:
            self.action()
        elif trainer.global_step > 2:
            time.sleep(1)  # a batch as long as real ones: a signal that is told to a thread finds the training at work

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        del trainer, pl_module
        say("on_exception", type(exception).__name__, getattr(exception, "code", None))

    def on_train_end(self, *_: Any) -> None:
        say("on_train_end")

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        del trainer, pl_module
        say("teardown", stage)


def _fit(action: Any) -> Any:
    t, m = trainer(callbacks=[Does(action)]), Model()
    try:
        t.fit(m, loader())
    except BaseException as error:
        say("caught", type(error).__name__, getattr(error, "code", None))
        raise
    finally:
        say("finally")
    say("after")
    return fitted(m, t)


def _fail() -> None:
    raise ValueError("of the user's")


def _interrupt() -> None:
    raise KeyboardInterrupt


def _terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@situation(exit_code=1)
def exception_in_a_hook(_start: int) -> Any:
    _fit(_fail)


@situation("two", exit_code=1)
def exception_on_both_ranks(_start: int) -> Any:
    _fit(_fail)


@situation(exit_code=3)
def exit_in_a_hook(_start: int) -> Any:
    _fit(lambda: sys.exit(3))


@situation(exit_code=0)
def exit_with_success_in_a_hook(_start: int) -> Any:
    _fit(sys.exit)


@situation(exit_code=1)
def interrupted(_start: int) -> Any:
    """Ctrl-C, or a platform's SIGINT (pytorch-lightning#19916, #20666)."""
    _fit(_interrupt)


@situation(exit_code=1)
def interrupted_by_a_signal(_start: int) -> Any:
    _fit(lambda: os.kill(os.getpid(), signal.SIGINT))


# SIGTERM is a row of the table: all ranks stop at one step, with a checkpoint, and the exit code says so.
def _stops(*lines: str) -> dict[str, dict[str, Any]]:
    said = [*lines, "on_exception SIGTERMException 143", "caught SIGTERMException 143", "finally"]
    return {"sigterm": {"exit code": 143, "stdout": said, "files in job": ANY, "content of job*": ANY}}


@situation(allowed=_stops())
def terminated(_start: int) -> Any:
    """SIGTERM in a fit, and what is called then (pytorch-lightning#1455)."""
    _fit(_terminate)


@situation(allowed=_stops("handler"))
def terminated_with_a_handler_of_the_users(_start: int) -> Any:
    """The user's handler is called, as in stock since 2.0 (pytorch-lightning#16534)."""
    signal.signal(signal.SIGTERM, lambda *_: say("handler"))
    _fit(_terminate)


@situation()
def handlers_after_a_fit(_start: int) -> Any:
    """Handlers are again the user's when a fit is over."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGALRM, signal.SIGHUP, signal.SIGCHLD)
    handlers: dict[Any, Any] = {number: (lambda *_: None) for number in numbers if number != signal.SIGCHLD}
    for number, handler in handlers.items():
        signal.signal(number, handler)
    inside: list[str] = []

    class Looks(Model):
        def on_train_start(self) -> None:
            inside.extend(str(signal.getsignal(number)).split(" at ")[0] for number in numbers[1:])

    trainer().fit(Looks(), loader())
    kept = [signal.getsignal(number) is handler for number, handler in handlers.items()]
    signal.setitimer(signal.ITIMER_REAL, 0)
    return {"kept": kept, "inside": inside, "default": str(signal.getsignal(signal.SIGCHLD))}


@situation(exit_code=143)
def terminated_after_the_training(_start: int) -> Any:
    """A handler that the script sets when it has trained."""
    trainer(max_epochs=1).fit(Model(), loader())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    _terminate()


@situation(exit_code=-15)
def terminated_between_trainings(_start: int) -> Any:
    trainer(max_epochs=1).fit(Model(), loader())
    _terminate()


@situation()
def exit_handlers(_start: int) -> Any:
    """In their order, with a process group or without one."""
    atexit.register(say, "first registered")
    t, m = trainer(), Model()
    t.fit(m, loader())
    atexit.register(say, "last registered")
    return fitted(m, t)


@situation("two")
def exit_handlers_that_use_the_process_group(_start: int) -> Any:
    t, m = trainer(), Model()
    atexit.register(lambda: say("sum at the end", float(t.strategy.reduce(m.net.bias.detach(), reduce_op="sum"))))
    t.fit(m, loader())
    return fitted(m, t)


@situation(exit_code=1)
def excepthook_of_the_users(_start: int) -> Any:
    """Sentry and others set one; it is called once."""
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        say("hook", kind.__name__, error)
        before(kind, error, trace)

    sys.excepthook = hook
    _fit(_fail)


@situation("two")
def group_destroyed_by_the_script(_start: int) -> Any:
    """``destroy_process_group()`` at the end, as torch's documentation recommends it."""
    import torch.distributed as dist  # noqa: PLC0415 - as scripts have it

    t, m = trainer(), Model()
    t.fit(m, loader())
    dist.destroy_process_group()
    return fitted(m, t) | {"initialized": dist.is_initialized()}
