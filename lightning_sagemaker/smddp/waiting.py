"""A barrier without time limit that needs no second process group: it waits on the store that made the first one.

Lightning (2.3 and later) guards an overridden ``prepare_data`` and ``Fabric.rank_zero_first`` by a new gloo group, and
AWS says that SMDDP allows neither ``new_group`` nor another backend beside it.
"""

from __future__ import annotations

import itertools
import traceback
from datetime import timedelta

import torch.distributed as dist

_RENEWAL = timedelta(seconds=30)  # of one look at the store; the wait ends at once when the others arrive
_numbers = itertools.count()  # all ranks make their barriers in the same order, as they would make groups


class StoreBarrier:
    """A sequence of barriers between all ranks, each of which may take as long as it likes.

    Raises:
        RuntimeError: There is no process group.
    """

    def __init__(self) -> None:
        self._store = dist.distributed_c10d._get_default_store()  # noqa: SLF001 - torch has no public name for it
        self._prefix = f"lightning_sagemaker/barrier/{next(_numbers)}"
        self._passed = 0

    def wait(self) -> None:
        """Wait until all ranks have called this as often.

        Raises:
            RuntimeError: Another rank has failed; the message holds its error.
        """
        outcome, self._passed = self._outcome(), self._passed + 1
        if self._store.add(f"{outcome}/arrived", 1) == dist.get_world_size():
            self._store.set(outcome, "")
        while not self._is_known(outcome):
            pass
        failure = self._store.get(outcome).decode()
        if failure:
            raise RuntimeError(failure)

    def fail(self, error: BaseException) -> None:
        """Let all ranks that wait or will wait at the next barrier raise, with the text of this rank's error."""
        text = "".join(traceback.format_exception_only(type(error), error)).strip()
        self._store.set(self._outcome(), f"rank {dist.get_rank()} failed while the others waited for it: {text}")

    def _outcome(self) -> str:
        return f"{self._prefix}/{self._passed}"

    def _is_known(self, outcome: str) -> bool:
        try:
            self._store.wait([outcome], _RENEWAL)
        except RuntimeError as error:
            if "timeout" not in str(error).lower():  # the store is gone, and with it the job
                raise
            return False
        return True
