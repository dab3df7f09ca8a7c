"""What the installed plugin costs before anything is trained: two environments, alike but for the plugin.

A bare interpreter, ``import torch`` and in it the part that loads plugins, ``import lightning.pytorch``, and the
construction of a Trainer; outside a SageMaker job and, with the variables of one, inside.
"""

import json
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from importlib.metadata import distribution
from pathlib import Path
from statistics import median

import lightning_sagemaker
from benchmarks.samples import Measured, Numbers, in_turn

ARMS = ("without", "without again", "with")
BARE_STARTS = 15  # of which the median counts: each takes but milliseconds
NAME = "lightning_sagemaker"
AROUND = {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
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
times = [time.perf_counter()]
import torch
times.append(time.perf_counter())
os.environ.pop("TORCH_DEVICE_BACKEND_AUTOLOAD")
torch._import_device_backends()
times.append(time.perf_counter())
import lightning.pytorch as pl
times.append(time.perf_counter())
for _ in range(2):
    pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    times.append(time.perf_counter())
spans = {"import_torch": (0, 2), "torch_plugins": (1, 2), "import_lightning": (2, 3)}
spans |= {"first_trainer": (3, 4), "second_trainer": (4, 5)}
print(json.dumps({f"{name}_seconds": times[end] - times[begin] for name, (begin, end) in spans.items()}))
"""


def environment_of(folder: Path, *, plugin: bool) -> Path:
    """A virtual environment with links to everything installed here; with the plugin laid out as its wheel does."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)  # noqa: S603 - ours
    target = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if NAME not in entry.name and not (target / entry.name).exists():
            (target / entry.name).symlink_to(entry)
    if plugin:
        information = Path(str(distribution(NAME).locate_file(f"{NAME}-{distribution(NAME).version}.dist-info")))
        root = Path(__file__).resolve().parents[2]
        for entry in (Path(lightning_sagemaker.__file__).parent, information, root / f"{NAME}.pth"):
            (target / entry.name).symlink_to(entry)
    return folder / "bin" / "python"


def start(python: Path, environ: dict[str, str]) -> Numbers:
    """One launch: seconds, by what took them."""
    bare = []
    for _ in range(BARE_STARTS):
        begin = time.perf_counter()
        subprocess.run([python, "-c", "pass"], check=True, env=environ)  # noqa: S603 - ours
        bare.append(time.perf_counter() - begin)
    environ = environ | {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}
    told = subprocess.check_output([python, "-c", PROGRAM], stderr=subprocess.DEVNULL, env=environ)  # noqa: S603 - ours
    numbers: Numbers = json.loads(told.splitlines()[-1])
    return {"bare_interpreter_seconds": median(bare)} | numbers


def measure(launches: int = 5) -> Iterator[Measured]:
    """Start programs.

    Args:
        launches: Of each arm.
    """
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        pythons = {arm: environment_of(Path(name, arm), plugin=arm == "with") for arm in ("without", "with")}
        for python in pythons.values():
            start(python, AROUND | JOB)  # compiles what is not yet compiled
        for case, job, names in (("outside a job", {}, ARMS), ("inside a job", JOB, ("without", "with"))):
            arms = {arm: partial(start, pythons[arm.removesuffix(" again")], AROUND | job) for arm in names}
            yield from in_turn(case, launches, arms, bare_starts=BARE_STARTS)  # one A/A run judges the suite
