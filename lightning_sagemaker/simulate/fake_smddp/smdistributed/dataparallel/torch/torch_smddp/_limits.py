"""What SMDDP cannot do, and the words in which it says so.

Documented words are ``SMDDP does not support: ReduceOp`` and ``SMDDP does not support: _allgather_base``; the same
pattern is used where only the limit is known or likely. What follows in brackets is always the fake's own.

Documented: the list of collectives, SUM only, no ``new_group``, no second backend, no ``barrier(device_ids=...)``, the
AllGather side's two conditions, the instance types and that they are checked at import. Not documented, and taken for
unsupported here: gather, scatter, all-to-all, point to point, coalesced and sparse forms, CPU tensors where CUDA is.
Not known, and allowed here: every dtype that gloo or NCCL reduces, ``reduce_scatter`` with the AllGather side on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.distributed import ReduceOp

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

INSTANCE_TYPE_VARIABLES = ("SAGEMAKER_INSTANCE_TYPE", "SM_CURRENT_INSTANCE_TYPE")
ACCEPT_VARIABLE = "LIGHTNING_SAGEMAKER_FAKE_SMDDP_INSTANCE_TYPES"
# Releases before 2.3 also ran on p3.16xlarge and p3dn.24xlarge, which AWS has deprecated since; this plays a later one.
INSTANCE_TYPES = ("ml.p4d.24xlarge", "ml.p4de.24xlarge")

# The collectives that AWS's API document lists, by the name of their method on a process group.
COLLECTIVES = {
    "allreduce": "all_reduce",
    "broadcast": "broadcast",
    "reduce": "reduce",
    "allgather": "all_gather",
    "barrier": "barrier",
}
# The AllGather side, which FSDP uses: by default on under torchrun only.
ALLGATHER_COLLECTIVES = {
    "_allgather_base": "all_gather_into_tensor",
    "reduce_scatter": "reduce_scatter",
    "_reduce_scatter_base": "reduce_scatter_tensor",
}
# Everything else that torch can ask of a process group.
REFUSED = (
    *("_start_coalescing", "allgather_coalesced", "allgather_into_tensor_coalesced", "allreduce_coalesced", "alltoall"),
    *("alltoall_base", "gather", "recv", "recv_anysource", "reduce_scatter_tensor_coalesced", "scatter", "send"),
)
# Newer names that torch has given to methods since; errors keep the name that SMDDP's users know.
NEWER_NAMES = {
    "_allgather_base": "all_gather_single",
    "_reduce_scatter_base": "reduce_scatter_single",
    "allgather_into_tensor_coalesced": "all_gather_single_coalesced",
    "alltoall_base": "all_to_all_single",
    "reduce_scatter_tensor_coalesced": "reduce_scatter_single_coalesced",
}

_REDUCE_OPS = ("SUM", "AVG", "PRODUCT", "MIN", "MAX", "BAND", "BOR", "BXOR", "PREMUL_SUM")


def unsupported(what: str, detail: str = "") -> RuntimeError:
    """The real one's error, with the fake's own explanation."""
    return RuntimeError(f"SMDDP does not support: {what} ({f'{detail}; ' if detail else ''}fake SMDDP)")


@dataclass(frozen=True)
class Limits:
    """What this process may ask of SMDDP."""

    instance_type: str | None  # None where no variable names it
    allgather: bool  # whether the AllGather side is on
    allgather_reason: str  # why it is, or is not
    device: str  # type of device of the tensors that collectives take

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Limits:
        """Read the limits once, as the real one does at import: a variable set later changes nothing."""
        allgather, reason = _allgather(environ)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(_accepted_instance_type(environ), allgather, reason, device)

    def check_method(self, method: str) -> None:
        """Refuse a method of the AllGather side where that is off."""
        if method in ALLGATHER_COLLECTIVES and not self.allgather:
            raise unsupported(method, f"the AllGather side is off: {self.allgather_reason}")

    def check_tensors(self, name: str, tensors: Sequence[torch.Tensor]) -> None:
        """Refuse tensors that a collective reads or writes and that are no dense tensors of the device."""
        for tensor in tensors:
            if tensor.device.type != self.device:
                raise unsupported(f"{tensor.device.type} tensors", f"{name} takes {self.device} tensors only")
            if tensor.layout != torch.strided:
                raise unsupported("sparse tensors", name)


def reduce_op_name(op: Any) -> str:
    """Return the name of a `ReduceOp`, or of one of its constants."""
    # A constant on the left equals nothing.
    op = op if isinstance(op, ReduceOp) else ReduceOp(op)
    return next((name for name in _REDUCE_OPS if op == getattr(ReduceOp, name, None)), "unknown")


def _allgather(environ: Mapping[str, str]) -> tuple[bool, str]:
    if "TORCHELASTIC_RUN_ID" in environ:
        return True, "torchrun"
    if environ.get("SMDATAPARALLEL_OPTIMIZE_SDP", "").lower() == "true":
        return True, "SMDATAPARALLEL_OPTIMIZE_SDP=true"
    launcher = "mpirun" if "OMPI_COMM_WORLD_SIZE" in environ else "no torchrun"
    return False, f"{launcher}, and SMDATAPARALLEL_OPTIMIZE_SDP was not true at import"


def _accepted_instance_type(environ: Mapping[str, str]) -> str | None:
    name = next((name for name in INSTANCE_TYPE_VARIABLES if environ.get(name)), None)
    if name is None:
        # What the real one then does is unknown. Fatal it cannot be: jobs on one host or by torchrun lack the first.
        return None
    accepted = [part.strip() for part in environ.get(ACCEPT_VARIABLE, "").split(",") if part.strip()]
    accepted = accepted or list(INSTANCE_TYPES)
    if environ[name] not in accepted and "any" not in accepted:
        raise unsupported(
            f"instance type {environ[name]}",
            f"{name}; it runs on {', '.join(accepted)}. HINT: {ACCEPT_VARIABLE}=any switches this check off",
        )
    return environ[name]
