"""What a launch ran on and with: everything outside its settings that decides its result. Standard library only."""

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

DISTRIBUTIONS = ("torch", "lightning", "pytorch-lightning", "lightning-sagemaker", "smdistributed-dataparallel")
# Only these are written down: whatever else a job's environment has may be secret.
PREFIXES = ("NCCL_", "TORCH_NCCL_", "FI_", "OFI_NCCL_", "SMDATAPARALLEL_")
NAMES = ("BENCHMARK_COMMIT", "CUDA_VISIBLE_DEVICES", "GLOO_SOCKET_IFNAME", "OMP_NUM_THREADS")


@dataclass(frozen=True)
class Environment:
    """Of one launch, as its rank 0 saw it."""

    backend: str  # of the process group, asked of torch and not of a flag
    fake_smddp: bool  # whether that backend only stands in for the real one
    launcher: str = "none"
    hosts: int = 1
    instance_type: str | None = None
    python: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    git_hash: str | None = None  # "-dirty" with changes; None outside of a repository
    platform: str = ""
    cpu: str = ""
    cores: int = 0  # that this process may use
    gpus: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)


def gather(backend: str, environ: Mapping[str, str] = os.environ, **job: Any) -> Environment:  # noqa: ANN401 - as named
    """Read the environment; called in rank 0 after its steps, when the backend is known. `job`: as the caller knows it.

    A ``smdistributed`` package that calls itself a fake makes the launch one.
    """
    versions, gpus = dict[str, str](), tuple[str, ...]()
    for name in DISTRIBUTIONS:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    # The fake is a folder on the path, so it has no metadata.
    if loaded := getattr(sys.modules.get("smdistributed.dataparallel"), "__version__", None):
        versions["smdistributed-dataparallel"] = str(loaded)
    with suppress(ImportError, AttributeError, RuntimeError):
        import torch  # noqa: PLC0415 - only where a launch has it anyway

        gpus = tuple(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
        if gpus:
            versions |= {"cuda": str(torch.version.cuda), "nccl": ".".join(map(str, torch.cuda.nccl.version()))}
    return Environment(
        backend=backend,
        fake_smddp=backend == "smddp" and "fake" in versions.get("smdistributed-dataparallel", ""),
        python=platform.python_version(),
        versions=versions,
        git_hash=_git_hash(),
        platform=platform.platform(),
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0,
        gpus=gpus,
        variables={
            name: value for name, value in sorted(environ.items()) if name.startswith(PREFIXES) or name in NAMES
        },
        **job,
    )


def _cpu() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _git_hash() -> str | None:
    # Without the optional lock, looking does not write to the repository.
    git = ("git", "--no-optional-locks", "-C", str(Path(__file__).resolve().parents[1]))
    command = (*git, "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty")  # the commit alone, never a tag
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()  # noqa: S603 - our command
    return None
