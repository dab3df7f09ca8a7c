"""Values of metrics, read from their device without waiting for it.

``.item()`` of a value that a GPU is still computing stops the process until all that was sent to the GPU before is
done; the training's next kernels are sent late, and the GPU idles. So values are copied to the host behind the
kernels that compute them, and printed once the copy has arrived.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping


class Values:
    """Metrics at one moment; only single numbers, on the CPU or a CUDA device.

    Other accelerators (XLA, HPU) compute a value when it is asked for, which is not for one rank to do.
    """

    def __init__(self, metrics: Mapping[str, object]) -> None:
        self._numbers: dict[str, float] = {}
        on_devices: dict[torch.device, dict[str, torch.Tensor]] = {}
        for name, value in metrics.items():
            if isinstance(value, torch.Tensor) and value.device.type != "cpu":
                if value.is_cuda and value.numel() == 1 and not value.is_complex():
                    on_devices.setdefault(value.device, {})[name] = value
            elif (number := _number(value)) is not None:
                self._numbers[name] = number
        self._copies = [(list(values), *_copy(list(values.values()))) for values in on_devices.values()]
        self._names = list(metrics)

    def are_there(self) -> bool:
        """Whether all values can be read without waiting."""
        return all(arrived.query() for _, _, arrived in self._copies)

    def read(self) -> dict[str, float]:
        """All values by name; waits for those that have not arrived."""
        for names, copy, arrived in self._copies:
            arrived.synchronize()
            self._numbers |= zip(names, copy.tolist(), strict=True)
        self._copies.clear()
        return {name: self._numbers[name] for name in self._names if name in self._numbers}


def _copy(values: list[torch.Tensor]) -> tuple[torch.Tensor, torch.cuda.Event]:
    """Start copying values from one CUDA device to the host, without waiting for the device."""
    together = torch.stack([value.detach().reshape(()).to(torch.float64) for value in values])
    copy = torch.empty(len(values), dtype=torch.float64, pin_memory=True)  # into other memory, a copy waits for its end
    copy.copy_(together, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record(torch.cuda.current_stream(together.device))
    return copy, arrived


def _number(value: Any) -> float | None:
    try:
        return float(value.detach() if isinstance(value, torch.Tensor) else value)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # tensors raise the last
        return None
