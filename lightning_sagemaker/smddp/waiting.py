"""A barrier without time limit that needs no second process group: ranks wait at the first group's store.

Lightning (2.3 and later) guards an overridden ``prepare_data`` and ``Fabric.rank_zero_first`` by a new gloo group, and
AWS says that SMDDP allows neither ``new_group`` nor another backend beside it.
"""

from __future__ import annotations

import itertools
import os

import torch.distributed as dist

from lightning_sagemaker.distributed.failure_file import describe
from lightning_sagemaker.distributed.store import Arrival, PrefixStore, default_store
from lightning_sagemaker.distributed.waiting import Wait
from lightning_sagemaker.redaction import redact

_numbers = itertools.count()  # all ranks make their barriers in the same order, as they would make groups


class StoreBarrier:
    """A sequence of barriers between all ranks, without a time limit."""

    def __init__(self) -> None:
        self._store = PrefixStore(f"barrier/{next(_numbers)}", default_store())
        self._passed = 0

    def wait(self) -> None:
        """Wait until all ranks have called this as often."""
        size, here, self._passed = dist.get_world_size(), self._arrival(), self._passed + 1
        number = here.arrive()
        what = lambda: f"all ranks to reach the same point: {here.arrived} of {size} have"  # noqa: E731
        # The first one speaks: rank 0 may be the one that works while the others wait.
        if failure := Wait(f"Rank {dist.get_rank()}", what, speaks=number == 1).until(here.outcome):
            raise RuntimeError(failure)

    def fail(self, error: BaseException) -> None:
        """Make all ranks at the next barrier raise an error with the text of this rank's error."""
        what = redact(describe(error), os.environ)  # for the logs of the others
        self._arrival().fail(f"rank {dist.get_rank()} failed while the others waited for it: {what}")

    def _arrival(self) -> Arrival:
        return Arrival(PrefixStore(str(self._passed), self._store), dist.get_world_size())
