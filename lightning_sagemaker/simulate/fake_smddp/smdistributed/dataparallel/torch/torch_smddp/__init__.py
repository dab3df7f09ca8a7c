"""Fake SMDDP: importing it registers a torch.distributed backend ``smddp`` with the real one's documented limits.

=============================================  =========================================================================
variable, read at import                       meaning
=============================================  =========================================================================
SAGEMAKER_INSTANCE_TYPE,                       the instance type; one that SMDDP does not run on makes the import fail
SM_CURRENT_INSTANCE_TYPE                       with a RuntimeError
LIGHTNING_SAGEMAKER_FAKE_SMDDP_INSTANCE_TYPES  instance types to accept instead, separated by commas; ``any``: all
TORCHELASTIC_RUN_ID,                           whether the AllGather side is on: under torchrun, or with the second one
SMDATAPARALLEL_OPTIMIZE_SDP                    ``true``; without it all_gather_into_tensor and reduce_scatter fail
LIGHTNING_SAGEMAKER_FAKE_SMDDP_LOG             folder for a log of every collective: ``rank-N.jsonl``
=============================================  =========================================================================

Collectives run over gloo on CPU tensors, and where CUDA is, over NCCL on CUDA tensors and on nothing else: on a machine
without CUDA, CPU tensors stand for the device's.
"""

import os

from ._limits import Limits
from ._registration import announce, register

# Before anything is registered: a failed import must leave no backend behind.
_limits = Limits.from_environment(os.environ)
register(_limits, os.environ)
announce(_limits, os.environ)
