"""The job's requirements: the user's, Lightning, and this package in the version that is installed here."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from lightning_sagemaker.options import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lightning_sagemaker.submit.training_job import TrainingJob

REQUIREMENTS = "requirements.txt"
OURS = "lightning-sagemaker"
_LIGHTNING = ("lightning", "pytorch-lightning")
ANY_LIGHTNING = "lightning>=2.2,!=2.6.2,!=2.6.3"


def needed(job: TrainingJob, wheel_names: Sequence[str]) -> list[str]:
    """Lines that must be added to the folder's requirements: the job's, and what is not named there.

    That is Lightning and this package, in the versions that are installed here, or as one of the wheels that are sent.
    """
    given = [line for line in job.requirements if not line.endswith(".whl")]
    named = {name_of(line) for line in [*own_lines(job.folder), *given, *(f"./{name}" for name in wheel_names)]}
    lines = [*(f"./{name}" for name in wheel_names), *given]
    if not named & {*_LIGHTNING}:
        lines.append(next((f"{name}=={version}" for name in _LIGHTNING if (version := _version(name))), ANY_LIGHTNING))
    if OURS not in named:
        version = _version(OURS)
        lines.append(f"{OURS}=={version}" if version else OURS)
    return lines


def wheels(job: TrainingJob, folder: Path) -> list[Path]:
    """Wheels that are sent: the user's, and one of this package, built in a folder, where no index has what is here."""
    source = own_source(job)
    return [*given_wheels(job), *([_built(source, folder)] if source is not None else [])]


def given_wheels(job: TrainingJob) -> list[Path]:
    """Wheels among the job's own requirements."""
    return [Path(line) for line in job.requirements if line.endswith(".whl")]


def own_source(job: TrainingJob) -> Path | None:
    """Source of the wheel of this package for a job; ``None`` if an index has it, or the user names one."""
    named = {name_of(line) for line in [*own_lines(job.folder), *job.requirements]}
    return None if OURS in named else local_source()


def local_source() -> Path | None:
    """Folder or wheel from which this package was installed; ``None`` if an index has it.

    pip notes it in ``direct_url.json`` (PEP 610); without any metadata the package is imported from its repository.
    """
    try:
        text = importlib.metadata.distribution(OURS).read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return Path(__file__).parents[2]
    url = str(json.loads(text)["url"]) if text else ""
    return Path(unquote(urlsplit(url).path)) if url.startswith("file://") else None


def own_text(folder: Path, name: str = REQUIREMENTS) -> str:
    """Text of the folder's own file; empty without one."""
    path = folder / name
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def own_lines(folder: Path, name: str = REQUIREMENTS, known: frozenset[Path] = frozenset()) -> list[str]:
    """Lines of the folder's own file, and of those that it includes by ``-r``."""
    path = folder / name
    if path in known:
        return []
    found = []
    for line in own_text(folder, name).splitlines():
        included = re.match(r"\s*(?:-r|--requirement)[\s=]*([^\s#]+)", line)
        found += own_lines(path.parent, included[1], known | {path}) if included else [line]
    return found


def name_of(line: str) -> str:
    """Distribution that a line of requirements names, normalized as in PEP 503; empty where it names none.

    Of a URL, a folder or an archive it is what ``#egg=`` says, else the last name, without branch and version.
    """
    text = re.split(r"(?:^|\s)#", line, maxsplit=1)[0].strip()
    text = re.sub(r"^(?:-e|--editable)[\s=]*", "", text)
    place, _, fragment = text.partition("#")
    if egg := re.search(r"(?:^|&)egg=([^&\[]+)", fragment):
        text = egg[1]
    elif re.match(r"[\w+.-]+://|[./~]", place) or re.search(r"\.(?:whl|zip|tar\.gz)$", place):
        if "://" in place:  # of GitHub's archives, and a branch
            place = re.sub(r"^[\w+.-]+://[^/]*", "", place).partition("/archive/")[0].partition("@")[0]
        last = place.rstrip("/").rpartition("/")[2]
        text = re.split(r"-(?=[\d*])|\.(?:git|whl|zip|tar\.gz)$", last)[0]
    found = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", text)
    return re.sub(r"[-_.]+", "-", found[0]).lower() if found else ""


def _built(source: Path, folder: Path) -> Path:
    if source.suffix == ".whl":
        if not source.is_file():
            raise OSError(
                f"This package was installed from the wheel {source}, which is no longer there to be sent. HINT:"
                " name one with --requirement, or install the package from an index."
            )
        return source
    isolated = ["--no-build-isolation"] if importlib.util.find_spec("hatchling") else []  # without, pip fetches it
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", str(folder), str(source)]
    done = subprocess.run([*command, *isolated], capture_output=True, text=True, check=False)  # noqa: S603 - ours
    if done.returncode != 0:
        raise OSError(
            f"No wheel of lightning-sagemaker could be built from {source}: {one_line(done.stderr)[-500:]}. HINT: build"
            " one and name it with --requirement, or install the package from an index."
        )
    return next(folder.glob("lightning_sagemaker-*.whl"))


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
