"""Progress and metrics as lines of a job's log, where a person reads them and SageMaker's metric definitions find them.

Switched on by ``LIGHTNING_SAGEMAKER_METRICS=1``, which ``lightning-sagemaker submit`` sets.
"""

from lightning_sagemaker.metrics.form import BEGIN, line, pattern

__all__ = ["BEGIN", "line", "pattern"]
