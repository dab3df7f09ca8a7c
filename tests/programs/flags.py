"""An argparse script with flags, a list, a positional argument and options given twice."""

import argparse

from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--sizes", type=int, nargs="+")
    parser.add_argument("--tag", action="append")
    given = parser.parse_args()
    trainer = Trainer(fast_dev_run=given.fast, logger=False)
    trainer.fit(BoringModel())
    print(f"rank {trainer.global_rank} of {trainer.world_size}: {vars(given)}")
