"""All ranks load the same checkpoint: they compare what they found before any rank loads it.

Only for moments to which all ranks come: those at which a Trainer restores a checkpoint. What is compared goes over
the store, since SMDDP has no collectives for it.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import torch.distributed as dist

from lightning_sagemaker.checkpoint.contents import Content, local, progress_in_words
from lightning_sagemaker.checkpoint.other_hosts import OtherHosts, fetch_if_missing
from lightning_sagemaker.distributed.store import Arrival, PrefixStore, default_store, read, write, write_first
from lightning_sagemaker.distributed.waiting import Wait, leave_store
from lightning_sagemaker.messages import log, say
from lightning_sagemaker.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning_sagemaker.distributed.store import Store

    Found = TypeVar("Found")

_PATIENCE = 10.0  # seconds that rank 0's offer may come later than its choice
_PROGRESS = 1.0  # seconds between two signs that a file is being sent
_HINT = (
    "HINT: give all ranks the same checkpoint; where a script looks for the newest file, let rank 0 look and the others"
    ' follow, as `ckpt_path="last"` does.'
)

_comparisons = itertools.count()  # all ranks restore in the same order


@dataclass(frozen=True)
class _Choice:
    """The checkpoint that a rank would load."""

    path: str | None  # as Lightning has it, in text
    content: Content  # what it leads to on this rank's host
    is_automatic: bool  # not given by the script: then rank 0's choice holds
    host: str

    @classmethod
    def of(cls, text: str) -> _Choice:
        found = json.loads(text)
        return cls(content=Content(**found.pop("content")), **found)

    def __str__(self) -> str:
        return "the beginning" if self.path is None else redact(self.path, os.environ)  # a URL may have a token in it

    @property
    def in_words(self) -> str:
        """Path and progress, on the rank's host; only for those who differ: to read the progress may take seconds."""
        path = None if self.content.kind in ("unknown", "missing") else local(self.path)
        progress = progress_in_words(path) if path else ""
        return f"{self} ({progress})" if progress else str(self)


class Comparison:
    """One point at which all ranks load a checkpoint."""

    def __init__(self, hosts: OtherHosts, *, is_comparable: bool, is_fit: bool) -> None:
        self._hosts = hosts
        self._store: Store = PrefixStore(f"restore/{hosts.number}/{next(_comparisons)}", default_store())
        self._me = f"{hosts.job.current_host}, rank {hosts.rank}"
        self._is_comparable = is_comparable
        self._is_fit = is_fit
        self._told = 0.0

    def agree(self, path: object, *, is_automatic: bool) -> object:
        """Compare this rank's checkpoint with rank 0's; get it from rank 0's host if this host lacks it.

        All ranks come here, and each gets what it shall load: its own choice, or rank 0's where no choice was the
        script's. If one cannot load it, or would continue from another one, all raise an error with the same text.
        """
        mine = self._choice(None if path in (None, "") else str(path), is_automatic=is_automatic)
        if self._hosts.rank == 0:
            first = mine
            if mine.content.kind == "file":
                fetch_if_missing(path)  # here: let the others have it
            write(self._store, "first", json.dumps(asdict(mine)))
        else:
            poll = partial(read, self._store, "first", str)
            first = _Choice.of(self._wait(lambda: "rank 0 to reach the same point", poll)[0])
            path = self._settled(path, mine, first)
        size = dist.get_world_size()
        all_ranks = Arrival(self._store, size)
        all_ranks.arrive()
        is_asked = self._hosts.rank == 0

        def outcome() -> str | None:
            nonlocal is_asked
            if is_asked and read(self._store, "question", str):
                write(self._store, "answer", mine.in_words)
                is_asked = False
            return all_ranks.outcome()

        self._wait(lambda: f"all ranks to have {first}: {all_ranks.arrived} of {size} have it", outcome)
        lack, dispute = read(self._store, "lack", str), read(self._store, "dispute", str)
        if lack or (dispute and self._is_fit):
            leave_store(self._store, size, self._me, has_server=self._hosts.rank == 0)
        if lack:
            raise FileNotFoundError(
                f"The ranks cannot load {first}: {lack[0]}. HINT: hosts have disks of their own. A file that rank"
                " 0's host has is sent to the others; make room for it there, or put the checkpoint where all hosts"
                " find it."
            )
        if dispute:
            if self._is_fit:
                raise ValueError(f"The ranks would continue from different checkpoints: {dispute[0]}. {_HINT}")
            if self._hosts.rank == 0:  # to evaluate several at a time is a script's right
                log.warning("The ranks load different checkpoints: %s. %s", dispute[0], _HINT)
        return path

    def _choice(self, path: str | None, *, is_automatic: bool) -> _Choice:
        content = Content.of(local(path) if self._is_comparable else None)
        return _Choice(path, content, is_automatic, self._hosts.job.current_host)

    def _settled(self, path: object, mine: _Choice, first: _Choice) -> object:
        """What this rank loads; if it cannot load what rank 0 loads, the reason goes to the store."""
        differs = (mine.path is None) != (first.path is None) or mine.content.differs_from(first.content)
        if differs and mine.is_automatic and first.is_automatic and mine.path != first.path:
            if self._hosts.is_first_of_host:
                found = "none" if mine.path is None else mine.in_words
                say("%s loads %s, as rank 0 does; by itself it would have found %s", self._me, first, found)
            path, mine = first.path, self._choice(first.path, is_automatic=True)
        if first.path is None or mine.path is None:
            if mine.path != first.path:
                self._dispute(mine)
            return path
        if first.content.kind == "file" and mine.content.differs_from(first.content) and mine.path == first.path:
            why = self._fetch(path)
            mine = self._choice(mine.path, is_automatic=mine.is_automatic)
            if why and mine.content.differs_from(first.content):
                self._publish("lack", why)
                return path
        if lack := _lack(mine, first):
            self._publish("lack", lack)
        elif mine.content.differs_from(first.content):
            self._dispute(mine)
        return path

    def _fetch(self, path: object) -> str:
        """Why this host did not get the file; empty if it did."""
        file = local(path)
        if file is None or not self._hosts.lacks_files:
            return ""
        if read(self._store, "lack", str):
            return ""  # another process has tried
        try:
            return self._hosts.fetch(file, patience=_PATIENCE, each=self._progressed)
        except (OSError, RuntimeError) as error:
            return f"{self._me} lacks it, and could not get it from rank 0's host: {type(error).__name__}: {error}"

    def _progressed(self) -> None:
        """Let those who wait know that a file is still being sent."""
        if time.monotonic() - self._told >= _PROGRESS:
            self._told = time.monotonic()
            self._store.add("pieces", 1)

    def _dispute(self, mine: _Choice) -> None:
        """Report that this rank differs; rank 0 is asked what it loads in words, before it may end because of this."""
        write(self._store, "question", "")
        poll = partial(read, self._store, "answer", str)
        (first,) = self._wait(lambda: "rank 0 to say what it loads", poll)
        would, also = ("would continue from", "from") if self._is_fit else ("loads", "loads")
        self._publish("dispute", f"rank 0 {would} {first}, but {self._me} {also} {mine.in_words}")

    def _publish(self, key: str, text: str) -> None:
        """Report a failure to all ranks; only the first report counts."""
        write_first(self._store, key, redact(text, os.environ))

    def _wait(self, what: Callable[[], str], poll: Callable[[], Found | None]) -> Found:
        """Wait up to the group's time limit, which begins anew while a file is being sent."""
        hint = "HINT: look for the rank that is missing, in the logs of all hosts."
        pieces, speaks = partial(self._store.add, "pieces", 0), self._hosts.is_first_of_host
        return Wait(self._me, what, limit=self._hosts.timeout, hint=hint, speaks=speaks, progress=pieces).until(poll)


def _lack(mine: _Choice, first: _Choice) -> str:
    """What is missing on a rank's host or on rank 0's; empty if nothing is known to be missing."""
    kinds = (mine.content.kind, first.content.kind)
    if "unknown" in kinds:
        return ""
    if "missing" in kinds:
        if kinds == ("missing", "missing"):
            too = f", and rank 0's host {first.host} lacks {first.path}" if mine.host != first.host else ""
            return f"{mine.host} lacks {mine.path}{too}"
        lacking, other = (mine, first) if kinds[0] == "missing" else (first, mine)
        reason = ", a folder: each host has its own part of a sharded one" if other.content.kind == "folder" else ""
        return f"{lacking.host} lacks {lacking.path}, and {other.host} has {other.path}{reason}"
    if kinds == ("folder", "folder") and mine.content.lacks and not first.content.lacks:
        return (
            f"{mine.host} lacks {' and '.join(mine.content.lacks)} in {mine.path}: each host has its own part of a"
            " sharded checkpoint, and no part is sent"
        )
    return ""
