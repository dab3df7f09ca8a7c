"""Learning rates for larger worlds: two scaling rules, and a callback that applies one, with warm-up.

With N times as many processes, each optimizer step averages the gradients of N times as many samples. What follows for
the learning rate, and when, is in ``docs/learning-rate.md``.
"""

from lightning_sagemaker.learning_rate.callback import LearningRateScaling
from lightning_sagemaker.learning_rate.rule import scale_learning_rate

__all__ = ["LearningRateScaling", "scale_learning_rate"]
