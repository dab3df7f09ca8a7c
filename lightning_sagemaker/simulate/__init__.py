"""The simulation: runs a script on this machine as a SageMaker training job of several hosts would.

>>> from pathlib import Path
>>> from lightning_sagemaker.simulate import Simulation, simulate
>>> job = Simulation(Path("train.py"), ("--epochs", "2"), hosts=2, processes_per_host=2)  # doctest: +SKIP
>>> simulate(job).exit_code  # doctest: +SKIP
0
"""

from lightning_sagemaker.simulate.diagnosis import Failure
from lightning_sagemaker.simulate.run import Result, simulate
from lightning_sagemaker.simulate.spec import Simulation
from lightning_sagemaker.simulate.validation import DISTRIBUTIONS, SimulationError

__all__ = ["DISTRIBUTIONS", "Failure", "Result", "Simulation", "SimulationError", "simulate"]
