"""Checkpoints: where they live, which is the newest complete one, and writing that no kill turns into half of one."""

from lightning_sagemaker.checkpoint.newest import checkpoint_folder, latest_checkpoint

__all__ = ["checkpoint_folder", "latest_checkpoint"]
