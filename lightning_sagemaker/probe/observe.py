"""What every process of the probing job runs: looks first, then trials with process groups; a line for each answer."""

from __future__ import annotations

import os
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.probe import children
from lightning_sagemaker.probe.guarded import first_line, guarded
from lightning_sagemaker.probe.lines import Observation, say
from lightning_sagemaker.probe.looks import looks
from lightning_sagemaker.probe.place import find_place
from lightning_sagemaker.probe.trials import TRIALS, Task
from lightning_sagemaker.settings import seconds, switch

if TYPE_CHECKING:
    from lightning_sagemaker.probe.place import Place

SIMULATED = "LIGHTNING_SAGEMAKER_PROBE_SIMULATED"
LIMIT = "LIGHTNING_SAGEMAKER_PROBE_LIMIT"  # seconds for one operation
_LIMIT = 60.0
_LOOK_LIMIT = 120.0  # the first import of torch in a cold image is one of the looks
_BUDGET = 1200.0  # seconds after which no trial is begun: of the job's 1800
_NEXT_PORT = 1  # the ranks agree beside the job's own port


def main() -> None:
    """Observe, and print."""
    begin = time.monotonic()
    place = find_place(os.environ)
    limit = seconds(LIMIT, _LIMIT)

    def tell(key: str, value: Any) -> None:
        say(Observation(place.rank, place.host, key, value))

    world = {"world_size": place.world_size, "local_rank": place.local_rank, "launcher": place.launcher}
    tell("begin", {**world, "simulated": switch(SIMULATED)})
    for key, look in looks(os.environ, place).items():
        tell(key, guarded(look, _LOOK_LIMIT))
    _try_groups(place, limit, begin + _BUDGET, tell)
    tell("end", {"seconds": round(time.monotonic() - begin, 1)})


def _try_groups(place: Place, limit: float, until: float, tell: Any) -> None:
    patience = 4 * limit
    port = place.port + _NEXT_PORT
    try:
        from lightning_sagemaker.probe.agreement import Agreement

        agreement = Agreement(
            place.address,
            port,
            rank=place.rank,
            world_size=place.world_size,
            serves=place.rank == 0,
            patience=patience,
        )
        agreement.all_come("begin", patience)
    except Exception as error:  # noqa: BLE001 - hosts that do not meet are an answer, and the end of the questions
        tell("meeting", {"outcome": "error", "text": first_line(error)})
        return
    tell("meeting", {"outcome": "ok"})
    _set_interface(place)
    for name in TRIALS:
        reason = _not_here(name)
        task = Task(
            trial=name,
            start=0,
            rank=place.rank,
            world_size=place.world_size,
            local_rank=place.local_rank,
            address=place.address,
            port=port,
            job_port=place.port,
            limit=limit,
            patience=patience,
            results="",
        )
        for operation, outcome in children.outcomes(task, until) if reason is None else ():
            tell(f"{name}/{operation}", outcome)
        if reason is not None:
            tell(f"{name}/end", {"outcome": "not tried", "text": reason})
    agreement.leave(patience)


def _set_interface(place: Place) -> None:
    """Choose gloo's interface as this package does before it makes a group."""
    from lightning_sagemaker.distributed.interface import set_gloo_interface

    if place.job is not None:
        set_gloo_interface(place.job, os.environ)


def _not_here(trial: str) -> str | None:
    """Why a trial means nothing here; ``None`` where it does."""
    import torch

    if (TRIALS[trial].device_id or trial == "nccl") and not torch.cuda.is_available():
        return "there is no GPU"
    if TRIALS[trial].backend == "smddp":
        try:
            present = find_spec("smdistributed.dataparallel") is not None
        except (ImportError, ValueError):
            present = False
        return None if present else "the image has no SMDDP"
    return None
