"""What the installed plugin costs before anything is trained: two environments, alike but for the plugin.

Run by the Python that has torch and Lightning: ``python -m benchmarks.start_up SAMPLES_FILE --launches N``.
A bare interpreter, ``import torch`` and in it the part that loads plugins, ``import lightning.pytorch``, and the
construction of a Trainer; outside a SageMaker job and, with the variables of one, inside.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import sysconfig
import tempfile
import time
from importlib.metadata import distribution
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.environment import gather
from benchmarks.samples import Launch, append, interleaved

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[1]
BARE_STARTS = 15  # of which the median counts: each takes but milliseconds
NAME = "lightning_sagemaker"
JOB = {  # of one host with one process, as SDK v2's toolkit sets them
    "TRAINING_JOB_NAME": "benchmark",
    "SM_TRAINING_ENV": "{}",
    "SM_CURRENT_HOST": "algo-1",
    "SM_HOSTS": '["algo-1"]',
    "SM_NUM_GPUS": "0",
    "SM_NETWORK_INTERFACE_NAME": "eth0",
}
# torch loads its plugins at the end of its import; done apart from it, so that milliseconds show beside a second.
PROGRAM = """
import json, os, time
begin = time.perf_counter()
import torch
torch_done = time.perf_counter()
os.environ.pop("TORCH_DEVICE_BACKEND_AUTOLOAD")
torch._import_device_backends()
plugins_done = time.perf_counter()
import lightning.pytorch as pl
lightning_done = time.perf_counter()
made = []
for _ in range(2):
    start = time.perf_counter()
    pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    made.append(time.perf_counter() - start)
print(json.dumps({
    "import_torch_seconds": plugins_done - begin,
    "torch_plugins_seconds": plugins_done - torch_done,
    "import_lightning_seconds": lightning_done - plugins_done,
    "first_trainer_seconds": made[0],
    "second_trainer_seconds": made[1],
}))
"""


def environment_of(folder: Path, *, plugin: bool) -> Path:
    """A virtual environment with links to everything installed here; with the plugin laid out as its wheel does."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)  # noqa: S603 - ours
    python = folder / "bin" / "python"
    told = subprocess.run(  # noqa: S603 - ours
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    )
    target = Path(told.stdout.strip())
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if NAME not in entry.name and not (target / entry.name).exists():
            (target / entry.name).symlink_to(entry)
    if plugin:
        import lightning_sagemaker  # noqa: PLC0415 - found, not used

        (target / NAME).symlink_to(Path(lightning_sagemaker.__file__).parent)
        information = Path(str(distribution(NAME).locate_file(f"{NAME}-{distribution(NAME).version}.dist-info")))
        (target / information.name).symlink_to(information)
        (target / f"{NAME}.pth").write_text((ROOT / f"{NAME}.pth").read_text(encoding="utf-8"), encoding="utf-8")
    return python


def measure(python: Path, environ: dict[str, str]) -> dict[str, float]:
    """One launch: seconds, by what took them."""
    bare = []
    for _ in range(BARE_STARTS):
        begin = time.perf_counter()
        subprocess.run([python, "-c", "pass"], check=True, env=environ)  # noqa: S603 - ours
        bare.append(time.perf_counter() - begin)
    told = subprocess.run(  # noqa: S603 - ours
        [python, "-c", PROGRAM],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environ | {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"},
        text=True,
    )
    numbers: dict[str, float] = json.loads(told.stdout.splitlines()[-1])
    return {"bare_interpreter_seconds": median(bare)} | numbers


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all launches."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("samples", type=Path)
    parser.add_argument("--launches", type=int, default=6)
    given = parser.parse_args(arguments)
    cases = {
        "outside a job": ({}, ("without", "without again", "with")),
        "inside a job": (JOB, ("without", "with")),  # one A/A run judges the suite
    }
    around = {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        pythons = {arm: environment_of(Path(name, arm), plugin=arm == "with") for arm in ("without", "with")}
        for python in pythons.values():
            measure(python, around | JOB)  # compiles what is not yet compiled
        described = gather("none", stand_in=False, environ=around)
        for case, (variables, arms) in cases.items():
            for arm, index in interleaved(arms, given.launches):
                launch = Launch(
                    suite="start-up",
                    case=case,
                    arm=arm,
                    role={"without": "baseline", "without again": "again"}.get(arm, "candidate"),  # type: ignore[arg-type]
                    index=index,
                    settings={"plugin": "on" if arm == "with" else "off", "bare_starts": BARE_STARTS},
                    environment=described,
                    numbers=measure(pythons[arm.removesuffix(" again")], around | variables),
                )
                append(given.samples, launch)
                print(f"benchmark: start-up, {case}, {arm}", flush=True)


if __name__ == "__main__":
    main()
