"""``node_lock`` and ``once_per_node``: eight processes of one host, one download, no process group.

What they guarantee after a crash, a kill, a fork, and on which file systems, is in ``docs/locking.md``.
"""

from lightning_sagemaker.locking.lock import DEFAULT_TIMEOUT, SerialSetup, node_lock
from lightning_sagemaker.locking.once import once_per_node

__all__ = ["DEFAULT_TIMEOUT", "SerialSetup", "node_lock", "once_per_node"]
