"""The script of the job: runs situations one after another, each in a process that it forks.

Torch and Lightning are imported once, before the first fork, and a situation begins as a script does: nothing is left
of another one, its exceptions and exit codes are the interpreter's own, and one that hangs is ended alone, with a
stack. Under torchrun it is as after a restart of the processes: with one more of them, and a new store of the agent's.
"""

from __future__ import annotations

import argparse
import atexit
import ctypes
import faulthandler
import gc
import json
import os
import shutil
import signal
import sys
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[2]
sys.path[0] = str(ROOT)  # instead of this folder: modules here have the names that they have in the tests


def _leave_imported_modules() -> None:
    """Do not take apart what was imported before the fork: it is most of a situation's time, and copies all its memory.

    What a script may have left there ends with the interpreter all the same: its process groups, and ours.
    """
    left = {name: sys.modules.pop(name) for name, module in _IMPORTED.items() if sys.modules.get(name) is module}
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(left))
    _LIBC.fflush(None)


def _end_with_the_interpreter() -> None:
    """Leave out what libraries do after the interpreter has ended: torch's take its operators apart, half of the time.

    `on_exit(3)` calls `_exit(status)`, before all that was registered by then.
    """
    _LIBC.on_exit(_LIBC._exit, None)


_LIBC = ctypes.CDLL(None)
_IMPORTED: dict[str, ModuleType] = {}
_ENDING = ("__main__", "builtins", "lightning_sagemaker", "sys", "tests", "torch.distributed.distributed_c10d")
atexit.register(_leave_imported_modules)  # before anyone else's, so that it is the last that runs

from tests.beside_stock.own_disks import have_own_disk  # noqa: E402
from tests.beside_stock.registry import Situation, load  # noqa: E402

HUNG = 124
_HELD = ("checkpoints", "model", "output/data")  # what the job keeps of a container


def main() -> bool:
    """Run the situations; whether this is the process of one, in which it has run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--job", required=True)
    parser.add_argument("--names", required=True)
    parser.add_argument("--limit", type=int, required=True, help="seconds after which a situation hangs")
    arguments = parser.parse_args()
    job = _Job(arguments.job, arguments.out, arguments.limit)
    # Lightning asks mpi4py for a world, which starts MPI: a second for each situation. This image has none.
    sys.modules["mpi4py"] = None  # type: ignore[assignment]
    situations, count = load(), 0
    _IMPORTED.update((name, module) for name, module in sys.modules.items() if not _ends(name))
    weakref.finalize._registry.clear()  # type: ignore[attr-defined] # would take torch's operators apart
    gc.freeze()  # what the situations have in common is neither searched nor copied in each of them
    for name in arguments.names.split(","):
        for start in range(1, situations[name].starts + 1):
            count += 1
            if job.start(situations[name], start, count):
                return True
    return False


def _ends(module: str) -> bool:
    return module in _ENDING or module.partition(".")[0] in _ENDING


class _Job:
    """What the situations of this process, which is one of the job, have in common."""

    def __init__(self, job: str, out: Path, limit: int) -> None:
        self.out, self.limit, self.base = out, limit, Path(os.environ["SAGEMAKER_BASE_DIR"])
        hosts = json.loads(os.environ["SM_HOSTS"])
        host = hosts.index(os.environ["SM_CURRENT_HOST"])
        self.rank = int(os.environ.get("RANK", host))
        self.is_first = int(os.environ.get("LOCAL_RANK", "0")) == 0  # of its host
        self.host = f"host {host}" if job in ("hosts", "disks") else ""
        self.is_torchrun = job == "two"
        self.pipes = [] if job == "one" else self._pipes()
        os.environ["BESIDE_STOCK_JOB"] = job
        if self.host:  # the glue that stock needs; it may stay with the plugin
            os.environ["NODE_RANK"] = str(host)
        self.disk = None
        if job == "disks":
            self.disk = out / "disk"  # the same path on both hosts
            have_own_disk(
                self.disk, [path for path in self.base.parent.parent.glob("algo-*") if path != self.base.parent]
            )
        config = self.base / "input/config/checkpointconfig.json"
        config.write_text(json.dumps({"S3Uri": "s3://bucket/checkpoints", "LocalPath": str(self.base / "checkpoints")}))

    def start(self, situation: Situation, start: int, count: int) -> bool:
        """Run it; whether this is the process in which it ran."""
        folder = self.out / situation.name / str(start)
        work = (self.disk or self.out / situation.name) / "work" / ("" if self.disk else self.host)
        if self.is_first:
            self._prepare(folder, work, clean=start == 1, new_disk=situation.new_disk)
        keeper, port = _serve_store() if self.is_torchrun and self.is_first else (0, 0)
        port = max(port, self._exchange(port))
        child = os.fork()
        if child == 0:
            if self.is_torchrun:
                os.environ.update(MASTER_PORT=str(port), TORCHELASTIC_RESTART_COUNT=str(count))
            os.chdir(work)
            for stream, descriptor in (("stdout", 1), ("stderr", 2)):
                os.dup2(os.open(folder / f"{self.rank}.{stream}", os.O_WRONLY | os.O_CREAT), descriptor)
            faulthandler.dump_traceback_later(self.limit, exit=True)
            _end_with_the_interpreter()
            result = situation.run(start)
            (folder / f"{self.rank}.result").write_text(json.dumps(result))
            return True
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if "Timeout (" in (folder / f"{self.rank}.stderr").read_text(errors="replace"):
            code = HUNG
        (folder / f"{self.rank}.exit").write_text(str(code))
        self._exchange(0)
        if keeper:
            os.kill(keeper, signal.SIGKILL)
            os.waitpid(keeper, 0)
        if self.is_first:
            for name in _HELD:
                shutil.copytree(self.base / name, folder / "job" / self.host / name, symlinks=True)
            shutil.copytree(work, folder / "work" / self.host, symlinks=True)
            (folder / f"paths {self.rank}").write_text(json.dumps({"<job>": str(self.base), "<work>": str(work)}))
        return False

    def _prepare(self, folder: Path, work: Path, *, clean: bool, new_disk: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if clean:
            for name in _HELD:
                shutil.rmtree(self.base / name, ignore_errors=True)  # not there in a job without a configuration
                (self.base / name).mkdir()
        if clean or new_disk:
            shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True, exist_ok=True)

    def _pipes(self) -> list[int]:
        """One to the other process of the job, and one from it; to open one waits for the other process."""
        modes = [os.O_WRONLY, os.O_RDONLY]
        opened = [os.open(self.out / f"from {rank}", modes[(rank + self.rank) % 2]) for rank in (0, 1)]
        return opened if self.rank == 0 else opened[::-1]

    def _exchange(self, number: int) -> int:
        """Wait for the job's other process; its number."""
        if not self.pipes:
            return number
        os.write(self.pipes[0], f"{number:05}".encode())
        return int(os.read(self.pipes[1], 5))  # fails where the other process is gone


def _serve_store() -> tuple[int, int]:
    """Start a process with a store as torchrun's agent has one; its id and its port."""
    reading, writing = os.pipe()
    keeper = os.fork()
    if keeper == 0:
        from torch.distributed import TCPStore  # type: ignore[attr-defined] # noqa: PLC0415 - as the agent does

        store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
        os.write(writing, str(store.port).encode())
        while True:
            signal.pause()
    port = int(os.read(reading, 5))
    os.close(reading)
    os.close(writing)
    return keeper, port


if __name__ == "__main__" and not main():  # a situation's process ends as a script does
    os._exit(0)
