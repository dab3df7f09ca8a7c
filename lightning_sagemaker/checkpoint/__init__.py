"""Checkpoints: where they are, the newest complete one, and writing that a kill cannot interrupt halfway."""

from lightning_sagemaker.checkpoint.newest import checkpoint_folder, latest_checkpoint

__all__ = ["checkpoint_folder", "latest_checkpoint"]
