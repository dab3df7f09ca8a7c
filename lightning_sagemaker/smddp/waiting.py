"""A barrier without time limit that needs no second process group: it waits on the store that made the first one.

Lightning (2.3 and later) guards an overridden ``prepare_data`` and ``Fabric.rank_zero_first`` by a new gloo group, and
AWS says that SMDDP allows neither ``new_group`` nor another backend beside it.
"""

from __future__ import annotations

import itertools
import os

import torch.distributed as dist

from lightning_sagemaker.distributed.failure_file import describe
from lightning_sagemaker.distributed.store import default_store, wait_to_read, write
from lightning_sagemaker.redaction import redact

_numbers = itertools.count()  # all ranks make their barriers in the same order, as they would make groups


class StoreBarrier:
    """A sequence of barriers between all ranks, each of which may take as long as it likes.

    Raises:
        ValueError: There is no process group.
    """

    def __init__(self) -> None:
        self._store = default_store()
        self._prefix = f"barrier/{next(_numbers)}"
        self._passed = 0

    def wait(self) -> None:
        """Wait until all ranks have called this as often.

        Raises:
            RuntimeError: Another rank has failed; the message holds its error.
        """
        outcome, self._passed = self._outcome(), self._passed + 1
        if self._store.add(f"{outcome}/arrived", 1) == dist.get_world_size():
            write(self._store, outcome, "")
        (failure,) = wait_to_read(self._store, outcome, str)
        if failure:
            raise RuntimeError(failure)

    def fail(self, error: BaseException) -> None:
        """Let all ranks that wait or will wait at the next barrier raise, with the text of this rank's error."""
        what = redact(describe(error), os.environ)  # for the logs of the others
        write(self._store, self._outcome(), f"rank {dist.get_rank()} failed while the others waited for it: {what}")

    def _outcome(self) -> str:
        return f"{self._prefix}/{self._passed}"
