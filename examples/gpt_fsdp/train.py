"""A small GPT that learns this file, character by character, sharded over all GPUs of the job.

    python train.py                     # GPUs: FSDP, on SMDDP's AllGather where the job has it, otherwise on NCCL
    python train.py --strategy smddp    # runs on CPUs too: each process holds the whole model

FSDP shards over GPUs only. We have not run it: the tests of this repository have no GPU, and train with "smddp".
"""

import argparse
from pathlib import Path

import lightning as L
import torch
from torch import Tensor, nn
from torch.distributed.fsdp.wrap import wrap
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

CHARACTERS = 128  # ASCII
CONTEXT = 32


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.after_attention = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Linear(4 * width, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        parts = self.queries_keys_values(self.before_attention(x)).view(batch, length, 3, self.heads, -1)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        x = x + self.after_attention(attended.transpose(1, 2).reshape(batch, length, width))
        mixed: Tensor = x + self.mlp(x)
        return mixed


class GPT(nn.Module):
    def __init__(self, layers: int, width: int, heads: int, context: int) -> None:
        super().__init__()
        self.characters = nn.Embedding(CHARACTERS, width)
        self.positions = nn.Embedding(context, width)
        # FSDP gathers the parameters of one block at a time. Under another strategy `wrap` returns the block as it is.
        self.blocks = nn.Sequential(*(wrap(Block(width, heads)) for _ in range(layers)))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, CHARACTERS))

    def forward(self, text: Tensor) -> Tensor:
        positions = torch.arange(text.shape[1], device=text.device)
        logits: Tensor = self.head(self.blocks(self.characters(text) + self.positions(positions)))
        return logits


class Writer(L.LightningModule):
    gpt: nn.Module

    def __init__(self, layers: int = 2, width: int = 32, heads: int = 4, context: int = CONTEXT) -> None:
        super().__init__()
        self.shape = (layers, width, heads, context)

    def configure_model(self) -> None:
        """Lightning calls this where the strategy shards what is `wrap`ped."""
        if not hasattr(self, "gpt"):
            self.gpt = wrap(GPT(*self.shape))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        (text,) = batch
        loss = F.cross_entropy(self.gpt(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten())
        self.log("loss", loss, on_step=False, on_epoch=True, sync_dist=True)
        return loss

    def on_train_epoch_end(self) -> None:
        self.print(f"epoch {self.current_epoch}: loss {self.trainer.callback_metrics['loss']:.3f}")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.01)


def windows() -> TensorDataset:
    text = torch.tensor(list(Path(__file__).read_bytes()))
    return TensorDataset(text.unfold(0, CONTEXT + 1, CONTEXT))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strategy", default="smddp_fsdp", help='on CPUs: "smddp" or "ddp"')
    parser.add_argument("--epochs", type=int, default=4)
    arguments = parser.parse_args()

    L.seed_everything(42)
    trainer = L.Trainer(
        strategy=arguments.strategy,
        max_epochs=arguments.epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Writer(), DataLoader(windows(), batch_size=8, shuffle=True))
    print(f"rank {trainer.global_rank} of {trainer.world_size} trained with {type(trainer.strategy).__name__}")


if __name__ == "__main__":
    main()
