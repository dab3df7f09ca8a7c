from __future__ import annotations

import pytest
import torch

from benchmarks import models


def parameters(name: str, size: str) -> int:
    with torch.device("meta"):
        return sum(each.numel() for each in models.MODELS[name, size][0]().parameters())


def test_the_large_decoder_is_the_smallest_gpt_2() -> None:
    # 124,439,808 are GPT-2's, with biases, a vocabulary of 50,257 and 1,024 places; here it has 50,304 words.
    assert parameters("gpt", "gpu") == 124_439_808 + 47 * 768


@pytest.mark.parametrize("name", ["mlp", "gpt"])
def test_every_parameter_gets_a_gradient(name: str) -> None:
    torch.manual_seed(0)
    make, samples = models.MODELS[name, "laptop"]
    network = make()
    inputs, labels = network.batch(samples)
    loss = models.loss(network(inputs), labels)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(each.grad is not None and each.grad.abs().sum() > 0 for each in network.parameters())


def test_a_decoder_does_not_see_what_comes_later() -> None:
    torch.manual_seed(0)
    make, _ = models.MODELS["gpt", "laptop"]
    network = make().eval()
    text, _ = network.batch(1)
    changed = text.clone()
    changed[0, -1] += 1
    with torch.no_grad():
        assert torch.equal(network(text)[0, :-1], network(changed)[0, :-1])
