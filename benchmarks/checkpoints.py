"""What writing a checkpoint costs, ours against Lightning's own: time, and memory on top of the checkpoint itself.

    python benchmarks/checkpoints.py [--megabytes 500] [--rounds 7]

Each write runs in a process of its own, the arms by turns; medians.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def write(arm: str, megabytes: int, folder: Path) -> dict[str, float]:
    """Write one checkpoint in this process."""
    import torch  # noqa: PLC0415 - each arm's process pays for itself
    from lightning.fabric.utilities.cloud_io import _atomic_save  # noqa: PLC0415

    from lightning_sagemaker.checkpoint.writing import save_whole  # noqa: PLC0415

    content = {f"layer{index}": torch.ones(10 * 250_000) for index in range(megabytes // 10)}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.perf_counter()
    path = folder / f"{arm}.ckpt"
    save_whole(content, path) if arm == "ours" else _atomic_save(content, path)
    seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "megabytes on top": (peak - before) / 1024}


def main() -> None:
    """Run both arms by turns, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--arm", choices=("ours", "stock"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if given.arm:
            print(json.dumps(write(given.arm, given.megabytes, Path(name))))
            return
    seen: dict[str, list[dict[str, float]]] = {"ours": [], "stock": []}
    for _ in range(given.rounds):
        for arm, results in seen.items():
            command = [sys.executable, __file__, "--arm", arm, "--megabytes", str(given.megabytes)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - the command is ours
            results.append(json.loads(done.stdout))
    for arm, results in seen.items():
        medians = {key: round(statistics.median(result[key] for result in results), 2) for key in results[0]}
        print(arm, json.dumps(medians))


if __name__ == "__main__":
    main()
