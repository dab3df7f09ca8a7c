"""Values of metrics are read from their device without waiting for it.

No machine of the tests has a GPU. torch's fake tensors say that they lie on one, compute shapes as it does, and raise
when anybody asks for a value.
"""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from lightning_sagemaker.metrics.lines import Values


class Event:
    """What is recorded behind a copy; the test says when the device gets there."""

    arrived = False

    def record(self, stream: str) -> None:
        assert stream == "stream of cuda:0"

    def query(self) -> bool:
        return self.arrived


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    made: list[Event] = []

    def make() -> Event:
        made.append(Event())
        return made[-1]

    monkeypatch.setattr(torch.cuda, "Event", make)
    monkeypatch.setattr(torch.cuda, "current_stream", "stream of {}".format)
    return made


def test_numbers_of_any_kind_are_read_in_their_order_and_what_is_none_is_left_out() -> None:
    values = Values(
        {
            "tensor": torch.tensor(0.5),
            "one of a list": torch.ones(1, dtype=torch.int64),
            "text": "a text",
            "two": torch.ones(2),
            "complex": torch.tensor(1j),
            "graph": torch.tensor(2.0, requires_grad=True),
            "number": 3,
            "half": torch.tensor(1.5, dtype=torch.bfloat16),
            "nothing": None,
        }
    )
    assert values.are_there()
    read = values.read()
    assert read == {"tensor": 0.5, "one of a list": 1.0, "graph": 2.0, "number": 3.0, "half": 1.5}
    assert list(read) == ["tensor", "one of a list", "graph", "number", "half"]


def test_values_that_a_gpu_still_computes_are_copied_together_and_not_asked_for(events: list[Event]) -> None:
    with FakeTensorMode():
        loss = torch.empty((), device="cuda")
        with pytest.raises(RuntimeError):  # so does any other way to ask
            loss.item()
        values = Values(
            {
                "loss": loss,
                "accuracy": torch.empty(1, device="cuda", dtype=torch.bfloat16),
                "matrix": torch.empty(2, 2, device="cuda"),
                "phase": torch.empty((), device="cuda", dtype=torch.complex64),
                "graph": torch.empty((), device="cuda", requires_grad=True),
            }
        )
        assert not values.are_there()
    ((names, copy, _),) = values._copies
    assert names == ["loss", "accuracy", "graph"]
    assert (copy.device.type, copy.shape, copy.dtype) == ("cpu", (3,), torch.float64)
    (event,) = events
    event.arrived = True
    assert values.are_there()


def test_another_accelerator_is_never_asked_for_a_value() -> None:
    lazy = torch.empty((), device="meta")  # raises if it is
    assert Values({"loss": lazy, "number": 1.0}).read() == {"number": 1.0}
