"""What the processes of the job tell each other, by a store of their own that no trial can take down."""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from torch.distributed import TCPStore  # type: ignore[attr-defined] # missing in torch's own list

from lightning_sagemaker import SageMakerJob
from lightning_sagemaker.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Callable


def find_job() -> SageMakerJob:
    """The job of this process, also where it has no mark of a job, which a test asks for.

    Raises:
        RuntimeError: There is none.
    """
    job = SageMakerJob.detect({"TRAINING_JOB_NAME": "unmarked", **os.environ})
    if job is None:
        raise RuntimeError(
            "No resourceconfig.json: this is no SageMaker training job. HINT: `make on-sagemaker` sends one, and"
            " `lightning-sagemaker simulate tests/on_sagemaker/run.py` plays one."
        )
    return job


def place(job: SageMakerJob) -> tuple[int, int]:
    """Rank and number of ranks; without a launcher there is one process on each host, and its rank is the host's."""
    if job.rank is None or job.world_size is None:
        return job.node_rank, job.num_nodes
    return job.rank, job.world_size


class Ranks:
    """All ranks of the job, seen from one of them.

    Attributes:
        job: The job.
        limit: Seconds for one operation of a process group.
        rank: This one.
        size: Their number.
        port: Of the store, on the host of rank 0.
        problem: Why the ranks do not reach each other, ``None`` where they do.
    """

    def __init__(self, job: SageMakerJob, limit: float) -> None:
        self.job, self.limit = job, limit
        self.rank, self.size = place(job)
        self.port = job.main_port + 1  # beside the job's own, which scripts use
        self.problem: str | None = None
        self._name = f"rank {self.rank} on {job.current_host}"
        self._patience = timedelta(seconds=4 * limit)  # another rank may wait for operations that hang
        self._store: TCPStore | None = None
        try:
            self._store = TCPStore(
                *(job.main_address, self.port),
                is_master=self.rank == 0,
                timeout=self._patience,
                wait_for_workers=False,
            )
            self.gather("begin", lambda: None)
        except (RuntimeError, TimeoutError) as error:
            self.problem, self._store = _first_line(error), None

    def gather(self, key: str, look: Callable[[], Any]) -> dict[str, Any]:
        """What all ranks see, by rank; only this one where they have never met.

        Args:
            key: Name of what is asked, the same on all ranks, and not used before.
            look: Returns what can be JSON. Secrets are taken out of it before it is told.

        Raises:
            RuntimeError: It raised on a rank.
            TimeoutError: A rank tells nothing, now or before.
        """
        told: dict[str, Any]
        try:
            told = {"value": _without_secrets(look())}
        except Exception as error:  # noqa: BLE001 - it is told to all
            told = {"error": _without_secrets(_first_line(error))}
        answers = {self._name: told} if self._store is None else self._exchange(self._store, key, told)
        if errors := {rank: answer["error"] for rank, answer in answers.items() if "error" in answer}:
            raise RuntimeError(f"what was looked at cannot be seen: {errors}")
        return {rank: answer["value"] for rank, answer in answers.items()}

    def _exchange(self, store: TCPStore, key: str, told: dict[str, Any]) -> dict[str, Any]:
        if self.problem:
            raise TimeoutError(self.problem)
        store.set(f"{key}/{self.rank}", json.dumps([self._name, told]))
        keys = [f"{key}/{rank}" for rank in range(self.size)]
        try:
            store.wait(keys, self._patience)
        except RuntimeError as error:
            missing = [rank for rank, key in enumerate(keys) if not store.check([key])]
            self.problem = f"of {self.size} ranks these tell nothing within {self._patience}: {missing}"
            raise TimeoutError(self.problem) from error
        return dict(json.loads(store.get(key)) for key in keys)

    def leave(self) -> None:
        """Wait until all have reported: a launcher ends all ranks when one fails, and the store ends with rank 0."""
        sys.stdout.flush()
        if self.problem or self._store is None:
            time.sleep(0 if self.rank == 0 else self.limit / 4)  # nobody tells when rank 0 has
            return
        self.gather("end", lambda: None)
        self._store.set(f"left/{self.rank}", "")
        until = time.monotonic() + self.limit
        while self.rank == 0 and time.monotonic() < until:
            if self._store.check([f"left/{rank}" for rank in range(self.size)]):
                return
            time.sleep(0.05)


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_secrets(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_secrets(each) for each in value]
    return redact(value, os.environ) if isinstance(value, str) else value
