"""LightningCLI as its users write it: subcommands, a file of options, options with dots."""

from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.demos.boring_classes import BoringDataModule, BoringModel


class Model(BoringModel):
    def __init__(self, learning_rate: float = 0.1) -> None:
        super().__init__()
        self.learning_rate = learning_rate


if __name__ == "__main__":
    cli = LightningCLI(Model, BoringDataModule)
    world = f"rank {cli.trainer.global_rank} of {cli.trainer.world_size}"
    print(f"{world}: {cli.subcommand} {cli.trainer.max_steps} {cli.model.learning_rate}")
