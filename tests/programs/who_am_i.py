"""Says which host of the job this is, and needs neither torch nor Lightning."""

import sys

from lightning_sagemaker import SageMakerJob, once_per_node

job = SageMakerJob.detect()
if job is None:
    sys.exit("this is no job")
name = job.current_host
print(f"{once_per_node(lambda: name, key='host')} is host {job.node_rank} of {job.num_nodes}")
