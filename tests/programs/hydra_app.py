"""A Hydra application as its users write it: `key=value` and `+key=value`."""

import hydra
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
from omegaconf import DictConfig


@hydra.main(version_base=None)
def main(config: DictConfig) -> None:
    trainer = Trainer(max_steps=config.trainer.max_steps, logger=False, enable_checkpointing=False)
    trainer.fit(BoringModel())
    print(f"rank {trainer.global_rank} of {trainer.world_size}: {config.trainer.max_steps} {config.name}")


if __name__ == "__main__":
    main()
