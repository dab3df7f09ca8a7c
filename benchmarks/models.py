"""The networks that are trained, at a size for a laptop and at one for GPUs, with batches of random numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable


class Workload(NamedTuple):
    """A network, and how a batch for it is made."""

    make: Callable[[], nn.Module]
    batch: Callable[[int], tuple[Tensor, Tensor]]  # of so many samples: inputs, and labels of class indices
    samples: int  # in a batch of one device


def mlp(width: int, layers: int, samples: int) -> Workload:
    """A perceptron: little to compute for each parameter, so communication weighs most."""

    def make() -> nn.Module:
        hidden = [layer for _ in range(layers) for layer in (nn.Linear(width, width), nn.ReLU())]
        return nn.Sequential(*hidden, nn.Linear(width, 10))

    return Workload(make, lambda count: (torch.randn(count, width), torch.randint(10, (count,))), samples)


def gpt(layers: int, width: int, *, heads: int, tokens: int, samples: int, vocabulary: int) -> Workload:
    """A decoder as in GPT-2, whose smallest has 12 layers of width 768 and 124 M parameters."""

    def batch(count: int) -> tuple[Tensor, Tensor]:
        text = torch.randint(vocabulary, (count, tokens + 1))
        return text[:, :-1].contiguous(), text[:, 1:].contiguous()

    return Workload(lambda: _Decoder(layers, width, heads, tokens, vocabulary), batch, samples)


def workload(name: str, size: str) -> Workload:
    """One of `MODELS` at the size "laptop" or "gpu"."""
    return MODELS[name][size]


MODELS = {
    "mlp": {"laptop": mlp(512, 4, 32), "gpu": mlp(4096, 8, 256)},
    "gpt": {
        "laptop": gpt(2, 256, heads=4, tokens=32, samples=2, vocabulary=2048),
        "gpu": gpt(12, 768, heads=12, tokens=1024, samples=8, vocabulary=50304),
    },
}


def loss(outputs: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy; outputs of shape (..., classes), labels of shape (...)."""
    return functional.cross_entropy(outputs.flatten(0, -2), labels.flatten())


class _Decoder(nn.Module):
    def __init__(self, layers: int, width: int, heads: int, tokens: int, vocabulary: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.places = nn.Parameter(torch.zeros(tokens, width))
        block = nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.to_tokens = nn.Linear(width, vocabulary, bias=False)
        self.to_tokens.weight = self.tokens.weight  # tied, as in GPT-2

    def forward(self, text: Tensor) -> Tensor:
        length = text.shape[1]
        # With it torch knows that nobody sees what comes later, and takes its own way of computing that.
        mask = nn.Transformer.generate_square_subsequent_mask(length, text.device)
        states = self.blocks(self.tokens(text) + self.places[:length], mask, is_causal=True)
        outputs: Tensor = self.to_tokens(states)
        return outputs
