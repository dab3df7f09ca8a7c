"""The networks that are trained, at a size for a laptop and at one for GPUs, with batches of random numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable


class Workload(NamedTuple):
    """A network, and how a batch for it is made.

    Attributes:
        make: Makes the network.
        batch: Makes a batch of so many samples: inputs, and labels of class indices.
        samples: In a batch of one device.
    """

    make: Callable[[], nn.Module]
    batch: Callable[[int], tuple[Tensor, Tensor]]
    samples: int


def mlp(width: int, layers: int, samples: int) -> Workload:
    """A perceptron: little to compute for each parameter, so communication weighs most."""

    def make() -> nn.Module:
        hidden = [layer for _ in range(layers) for layer in (nn.Linear(width, width), nn.ReLU())]
        return nn.Sequential(*hidden, nn.Linear(width, 10))

    return Workload(make, lambda count: (torch.randn(count, width), torch.randint(10, (count,))), samples)


def resnet(blocks: tuple[int, ...], width: int, pixels: int, samples: int) -> Workload:
    """A residual network of bottleneck blocks; (3, 4, 6, 3) with width 64 is ResNet-50 (arXiv:1512.03385)."""

    def batch(count: int) -> tuple[Tensor, Tensor]:
        return torch.randn(count, 3, pixels, pixels), torch.randint(1000, (count,))

    return Workload(lambda: _ResNet(blocks, width), batch, samples)


def gpt(layers: int, width: int, *, heads: int, tokens: int, samples: int, vocabulary: int) -> Workload:
    """A decoder as in GPT-2, whose smallest has 12 layers of width 768 and 124 M parameters."""

    def batch(count: int) -> tuple[Tensor, Tensor]:
        text = torch.randint(vocabulary, (count, tokens + 1))
        return text[:, :-1].contiguous(), text[:, 1:].contiguous()

    return Workload(lambda: _Decoder(layers, width, heads, tokens, vocabulary), batch, samples)


def workload(name: str, size: str) -> Workload:
    """One of `MODELS` at the size "laptop" or "gpu"."""
    return MODELS[name][size]()


MODELS: dict[str, dict[str, Callable[[], Workload]]] = {
    "mlp": {"laptop": lambda: mlp(512, 4, 32), "gpu": lambda: mlp(4096, 8, 256)},
    "resnet": {"laptop": lambda: resnet((1, 1, 1, 1), 16, 32, 8), "gpu": lambda: resnet((3, 4, 6, 3), 64, 224, 64)},
    "gpt": {
        "laptop": lambda: gpt(2, 256, heads=4, tokens=32, samples=2, vocabulary=2048),
        "gpu": lambda: gpt(12, 768, heads=12, tokens=1024, samples=8, vocabulary=50304),
    },
}


def loss(outputs: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy; outputs of shape (..., classes), labels of shape (...)."""
    return functional.cross_entropy(outputs.flatten(0, -2), labels.flatten())


class _Bottleneck(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.body = nn.Sequential(
            nn.Conv2d(inputs, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, images: Tensor) -> Tensor:
        return functional.relu(self.body(images) + self.shortcut(images))


class _ResNet(nn.Module):
    def __init__(self, blocks: tuple[int, ...], width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        layers.append(nn.MaxPool2d(3, 2, 1))
        inputs = width
        for stage, count in enumerate(blocks):
            for block in range(count):
                layers.append(_Bottleneck(inputs, width * 2**stage, 2 if stage and not block else 1))
                inputs = 4 * width * 2**stage
        self.net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 1000))

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.net(images)
        return outputs


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_attention, self.from_attention = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, states: Tensor) -> Tensor:
        parts = self.to_attention(self.before_attention(states)).chunk(3, dim=-1)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        states = states + self.from_attention(attended.transpose(1, 2).flatten(2))
        result: Tensor = states + self.mlp(self.before_mlp(states))
        return result


class _Decoder(nn.Module):
    def __init__(self, layers: int, width: int, heads: int, tokens: int, vocabulary: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.places = nn.Parameter(torch.zeros(tokens, width))
        self.blocks = nn.Sequential(*(_Block(width, heads) for _ in range(layers)), nn.LayerNorm(width))
        self.to_tokens = nn.Linear(width, vocabulary, bias=False)
        self.to_tokens.weight = self.tokens.weight  # tied, as in GPT-2

    def forward(self, text: Tensor) -> Tensor:
        outputs: Tensor = self.to_tokens(self.blocks(self.tokens(text) + self.places[: text.shape[1]]))
        return outputs
