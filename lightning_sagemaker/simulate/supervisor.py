"""Runs a plan: output, failures, signals, and an end that leaves no process behind."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from lightning_sagemaker.simulate import failures, processes
from lightning_sagemaker.simulate.failures import Diagnosis, Failure, HeldErrors
from lightning_sagemaker.simulate.output import Stream
from lightning_sagemaker.simulate.spec import INTERRUPTIONS

if TYPE_CHECKING:
    from lightning_sagemaker.simulate.container import Cluster
    from lightning_sagemaker.simulate.output import Console
    from lightning_sagemaker.simulate.plan import Launch, Plan

_TICK = 0.1
# After a process has ended, its last output is waited for this long; a child that holds the pipe must not hold us.
_DRAIN = 0.5


class _Child(NamedTuple):
    launch: Launch
    process: subprocess.Popen[bytes]
    streams: list[Stream]

    @property
    def runs(self) -> bool:
        return self.process.returncode is None


class Supervisor:
    """Starts a plan's processes and stays until all of them are gone."""

    def __init__(self, plan: Plan, console: Console, cluster: Cluster) -> None:
        self._plan, self._console, self._cluster, self._job = plan, console, cluster, cluster.job
        self.interrupted = False  # whether the hosts were taken away, and nobody has ended the simulation
        self._selector = selectors.DefaultSelector()
        self._children: list[_Child] = []
        self._ranks: list[Stream] = []  # outputs of the ranks that a launcher starts
        self._word: tuple[str, Diagnosis] | None = None
        self._failed: _Child | None = None
        self._received: list[int] = []
        self._deadline: float | None = None  # of what is left of a job that ends, whatever ends it
        self._gone: float | None = None
        self._started = time.monotonic()
        self._tracebacks: list[Stream] = []
        self._errors = HeldErrors(verbose=self._job.verbose)

    def run(self) -> tuple[int, Failure | None]:
        """Run to the end; return the exit code, and the first failure, if there was one."""
        with processes.handling_signals(self._receive):
            try:
                self._start()
                while any(child.runs for child in self._children):
                    self._turn()
            finally:
                self._finish()
        code, failure = 0, None
        if self._received:
            self.interrupted = False
            code = 128 + self._received[0]
        elif self.interrupted:
            code = 128 + INTERRUPTIONS[self._job.interrupt_by][0]
        elif failure := self._failure():
            code = failure.code
        if code == 0:
            self._tell_held(ended_well=True)
        elif self._errors.left_out:
            self._console.note(f"{self._errors.left_out} lines of errors are left out. HINT: --verbose shows them")
        return code, failure

    def _start(self) -> None:
        for rank in self._plan.ranks:
            for error, suffix in ((False, "out"), (True, "err")):
                self._watch(Stream.named(self._plan.pipes / f"{rank}.{suffix}", rank, error=error), self._ranks)
        for launch in self._plan.launches:
            process = subprocess.Popen(  # noqa: S603
                launch.command,
                env=launch.environment,
                cwd=self._cluster.source(launch.host),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
            child = _Child(launch, process, [])
            self._children.append(child)
            for pipe, error in ((process.stdout, False), (process.stderr, True)):
                if pipe is not None:
                    self._watch(Stream(os.dup(pipe.fileno()), launch.host, launch.rank, error=error), child.streams)
                    pipe.close()

    def _watch(self, stream: Stream, beside: list[Stream]) -> None:
        beside.append(stream)
        self._selector.register(stream.descriptor, selectors.EVENT_READ, stream)

    def _turn(self) -> None:
        """Read once, look after the children once."""
        self._read()
        now = time.monotonic()
        self._interrupt(now)
        for child in self._children:
            code = child.process.poll()  # of each, always: it is what notices an end
            if code and not (self._failed or self.interrupted):
                self._failed = child
                self._end(signal.SIGTERM)
        if self._console.broken and not self._received:
            self._received.append(signal.SIGPIPE)
            self._end(signal.SIGTERM)
        if self._deadline is not None and now >= self._deadline:
            self._deadline = now + self._job.grace
            self._end(signal.SIGKILL)
        outputs = [stream for stream in self._ranks if not stream.error]
        if outputs and self._deadline is None and not any(stream.open for stream in outputs):
            self._gone = self._gone or now
            if now - self._gone > self._plan.patience:
                self._gone = now  # asked again, if ranks live that have closed their output or sent it to a file
                if not processes.has_ranks(self._cluster.mark):
                    self._console.note("all ranks have ended, their launcher has not: ending it")
                    self._end(signal.SIGTERM)
        self._show(sum(stream.open and stream.host is not None for stream in outputs))

    def _interrupt(self, now: float) -> None:
        after, (number, patience) = self._job.interrupt_after, INTERRUPTIONS[self._job.interrupt_by]
        if after is None or now - self._started < after or self._deadline is not None:
            return
        self.interrupted = True
        self._end(number, patience)
        self._console.note(f"the job is interrupted after {now - self._started:.1f} s, by {number.name}")

    def _show(self, running: int) -> None:
        up = [child.launch for child in self._children if child.runs]
        # mpirun, one process on the leader's host, stands for all of them.
        stands_for_all = self._plan.ranks and up and len(self._children) == 1
        hosts = self._job.hosts if stands_for_all else len({one.host for one in up})
        text = f"{self._cluster.name} | {hosts} of {self._job.hosts} hosts up"
        if self._plan.ranks:
            text += f" | {running} of {len(self._plan.ranks)} ranks running"
        elif any(one.rank is not None for one in up):
            text += f" | {len(up)} of {len(self._children)} ranks running"
        self._console.status(text)

    def _read(self) -> None:
        streams: list[Stream] = [key.data for key, _ in self._selector.select(_TICK)]
        for stream in sorted(streams, key=lambda stream: stream.error):
            lines = stream.read()
            if not stream.open:
                self._selector.unregister(stream.descriptor)
            self._look(stream, lines)
            if self.interrupted and not self._received:  # nothing fails: what a script says of its end is to be seen
                self._tell_held(ended_well=True)
            else:
                lines = self._errors.shown(stream, lines, failing=self._deadline is not None)
            self._write(stream, lines)
        if self._deadline is None:
            self._tell_held()

    def _write(self, stream: Stream, lines: list[str]) -> None:
        if lines:
            self._console.lines([f"{stream.label} {line}" for line in lines], error=stream.error)

    def _tell_held(self, *, ended_well: bool = False) -> None:
        for stream, lines in self._errors.released(ended_well=ended_well):
            self._write(stream, lines)

    def _look(self, stream: Stream, lines: list[str]) -> None:
        """Notice a traceback, and what a launcher says of a failure."""
        if stream.error and stream not in self._tracebacks and failures.has_traceback(lines):
            self._tracebacks.append(stream)
        if stream.rank is None and stream.host is not None and self._plan.ranks:
            for line in lines:
                word = failures.read(line)
                # The first one tells, or the later one, if that of this host named nothing.
                if word and self._word in (None, (stream.host, Diagnosis())):
                    self._word = (stream.host, word)
                    # The launcher ends its own ranks; those that do not listen are given this long.
                    self._deadline = self._deadline or time.monotonic() + self._job.grace

    def _end(self, number: signal.Signals, patience: float | None = None) -> None:
        for child in self._children:
            if child.runs:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(child.process.pid, number)
        gone = {child.process.pid for child in self._children if not child.runs}
        # The number of a group whose first process has been waited for may be another one's by now.
        processes.end_members(self._cluster.mark, number, None if number == signal.SIGKILL else gone)
        until = time.monotonic() + (self._job.grace if patience is None else patience)
        self._deadline = until if self._deadline is None else min(self._deadline, until)

    def _finish(self) -> None:
        """Take in the last output, kill what is left as the end of a container does, take in what that freed."""
        for stream in self._ranks:
            stream.release()
        try:
            self._drain()
        finally:
            self._end(signal.SIGKILL)
            for child in self._children:
                child.process.wait()
            while processes.end_members(self._cluster.mark, signal.SIGKILL):
                time.sleep(_TICK)
        self._drain()
        for key in list(self._selector.get_map().values()):
            os.close(key.fd)
        self._selector.close()
        self._console.close()

    def _drain(self) -> None:
        until = time.monotonic() + _DRAIN
        while self._selector.get_map() and time.monotonic() < until:
            self._read()

    def _failure(self) -> Failure | None:
        child = self._failed
        if child is None:
            return None
        host, rank, code = child.launch.host, child.launch.rank, child.process.returncode
        if self._word is not None:
            host, word = self._word
            rank, code = word.rank, code if word.code is None else word.code
            here = [stream.rank for stream in self._ranks if stream.host == host and not stream.error]
            if word.local_rank is not None and word.local_rank < len(here):
                rank = here[word.local_rank]
        if rank is None:  # a launcher that did not name it: the first that showed a traceback
            of_ranks = [stream for stream in self._tracebacks if stream.rank is not None]
        else:
            of_ranks = [stream for stream in self._ranks if stream.rank == rank and stream.error]
        told = [*of_ranks, *sorted(child.streams, key=lambda stream: not stream.error)]
        source = next((stream for stream in told if any(stream.tail)), told[-1])
        rank = source.rank if rank is None else rank
        host = next((stream.host for stream in self._ranks if stream.rank == rank and stream.host), host)
        return Failure(host, rank, 128 - code if code < 0 else code, failures.error_text(list(source.tail)))

    def _receive(self, number: int, _frame: Any) -> None:
        """Turn a signal that ends us into an end of the job; a second one does not wait."""
        self._received.append(number)
        self._end(signal.SIGTERM if len(self._received) == 1 else signal.SIGKILL)
