"""The networks that are trained, at a size for a laptop and at one for GPUs, with batches of random numbers."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class MLP(nn.Sequential):
    """A perceptron: little to compute for each parameter, so communication weighs most."""

    def __init__(self, width: int, layers: int) -> None:
        hidden = [layer for _ in range(layers) for layer in (nn.Linear(width, width), nn.ReLU())]
        super().__init__(*hidden, nn.Linear(width, 10))
        self.width = width

    def batch(self, samples: int) -> tuple[Tensor, Tensor]:
        """Inputs, and labels of class indices."""
        return torch.randn(samples, self.width), torch.randint(10, (samples,))


class GPT(nn.Module):
    """A decoder as in GPT-2, whose smallest has 12 layers of width 768 and 124 M parameters."""

    def __init__(self, layers: int, width: int, *, heads: int, tokens: int, vocabulary: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.places = nn.Parameter(torch.zeros(tokens, width))
        block = nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.to_tokens = nn.Linear(width, vocabulary, bias=False)
        self.to_tokens.weight = self.tokens.weight  # tied, as in GPT-2

    def batch(self, samples: int) -> tuple[Tensor, Tensor]:
        """Tokens, and for each the one that follows it."""
        text = torch.randint(self.tokens.num_embeddings, (samples, len(self.places) + 1))
        return text[:, :-1].contiguous(), text[:, 1:].contiguous()

    def forward(self, text: Tensor) -> Tensor:
        """Logits of the next token."""
        length = text.shape[1]
        # With it torch knows that nobody sees what comes later, and takes its own way of computing that.
        mask = nn.Transformer.generate_square_subsequent_mask(length, text.device)
        states = self.blocks(self.tokens(text) + self.places[:length], mask, is_causal=True)
        outputs: Tensor = self.to_tokens(states)
        return outputs


# By name and size: the network, and the samples in a batch of one device.
MODELS: dict[tuple[str, str], tuple[partial[Any], int]] = {
    ("mlp", "laptop"): (partial(MLP, 512, 4), 32),
    ("mlp", "gpu"): (partial(MLP, 4096, 8), 256),
    ("gpt", "laptop"): (partial(GPT, 2, 256, heads=4, tokens=32, vocabulary=2048), 2),
    ("gpt", "gpu"): (partial(GPT, 12, 768, heads=12, tokens=1024, vocabulary=50304), 8),
}


def loss(outputs: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy; outputs of shape (..., classes), labels of shape (...)."""
    return functional.cross_entropy(outputs.flatten(0, -2), labels.flatten())
