"""The log of what was asked of the backend, as JSON lines."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

VARIABLE = "LIGHTNING_SAGEMAKER_FAKE_SMDDP_LOG"


class CallLog:
    """One rank's log, ``rank-N.jsonl`` in a folder; a later group of the same rank goes on in the same file."""

    def __init__(self, folder: str, rank: int) -> None:
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103 - strings from end to end, as the environment has them
        self._rank = rank
        self._file = os.open(f"{folder}/rank-{rank}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], rank: int) -> CallLog | None:
        """Open the log that the environment asks for, if any."""
        folder = environ.get(VARIABLE)
        return cls(folder, rank) if folder else None

    def write(self, op: str, **fields: object) -> None:
        """Write one line. It is whole even if the process is killed next: there is no buffer."""
        line = json.dumps({"op": op, **fields, "rank": self._rank, "time": round(time.time(), 6)})
        os.write(self._file, line.encode() + b"\n")

    def close(self) -> None:
        """Close the file; calling it again does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def described(tensor: torch.Tensor) -> dict[str, Any]:
    """Return what the log says of a tensor."""
    return {
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "shape": list(tensor.shape),
        "bytes": tensor.numel() * tensor.element_size(),
    }
