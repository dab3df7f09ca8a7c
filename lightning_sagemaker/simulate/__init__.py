"""The simulation: runs a script on this machine as a SageMaker training job of several hosts would.

>>> from lightning_sagemaker.simulate import simulate
>>> simulate("train.py", ["--epochs", "2"], hosts=2, launcher="torchrun")  # doctest: +SKIP
ended after 21.4 s with exit code 0
>>> simulate("train.py", hosts=2, checkpoints="kept", interrupt_after=40, restart=True).starts  # doctest: +SKIP
2
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, ParamSpec

from lightning_sagemaker.simulate.failures import Failure
from lightning_sagemaker.simulate.run import Result, run
from lightning_sagemaker.simulate.spec import DISTRIBUTIONS, Simulation, SimulationError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DISTRIBUTIONS", "Failure", "Result", "Simulation", "SimulationError", "simulate"]

_Parameters = ParamSpec("_Parameters")


def _of(description: Callable[_Parameters, Simulation]) -> Callable[_Parameters, Result]:
    """The function of a description's own parameters, which so stand once, with their types and defaults."""

    def simulate(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> Result:
        """Run a script on this machine as SageMaker would run it on a cluster; takes what `Simulation` takes.

        What the job prints goes to the standard output and the standard error, each line with host and rank; the
        simulation's own lines go to the latter.

        Returns:
            How it ended. The hosts' folders are kept when a folder was named, or on demand.

        Raises:
            SimulationError: The description is wrong; nothing was started.
        """
        return run(description(*args, **kwargs))

    simulate.__qualname__ = "simulate"
    simulate.__signature__ = inspect.signature(description)  # type: ignore[attr-defined]
    return simulate


simulate = _of(Simulation)
