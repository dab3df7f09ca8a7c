"""The job's source folder on this machine: what a job would get of it, a copy for each host, what it requires."""

from __future__ import annotations

import importlib.util
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

from lightning_sagemaker import source_folder
from lightning_sagemaker.options import installed_version, some
from lightning_sagemaker.simulate.spec import SimulationError
from lightning_sagemaker.source_folder import REQUIREMENTS, link_within

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lightning_sagemaker.simulate.spec import Simulation
    from lightning_sagemaker.source_folder import Source

# Bytes that are copied to each host: seconds on a disk. What is larger is data, for which there are channels.
_MOST = 1_000_000_000


def read(job: Simulation) -> Source:
    """What of the source folder a job would get, by the rules of `submit`: with the script, and of a size to copy."""
    try:
        found = source_folder.read(job.folder)
    except ImportError:  # no pathspec: notes() says so
        found = source_folder.read(job.folder, ignore_files=False)
    ignore = source_folder.IGNORE_FILES
    if job.entry not in found.files:
        raise SimulationError(
            f"script is {job.entry!r}, which is left out of the source folder by {' or '.join(ignore)}, or for what it"
            f" is. HINT: `!{job.entry}` in {ignore[-1]} keeps it."
        )
    if found.size > _MOST:
        raise SimulationError(
            f"source folder is {str(job.folder)!r} with {found.size / 1e6:.0f} MB in {len(found.files)} files, expected"
            f" at most {_MOST / 1e6:.0f} MB, since each host gets a copy. HINT: data as --channel NAME=PATH, its"
            f" name in {ignore[-1]} (read where pathspec is installed), or --source-dir with a smaller folder."
        )
    return found


def copy(job: Simulation, found: Source, target: Path) -> None:
    """Give a host its copy of what was found, as a job does: what the script writes beside itself is the host's own."""
    target.mkdir(parents=True)
    for name in found.files:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # gone meanwhile: an editor's, or that of another simulation
            if (job.folder / name).is_symlink():
                (target / name).symlink_to(link_within(job.folder, name))
            else:
                shutil.copy2(job.folder / name, target / name)


def notes(job: Simulation, found: Source) -> Iterator[str]:
    """What a user should know of the source folder: what is left out, and what it requires that is not here."""
    if out := [*found.credentials, *found.large, *found.links]:
        yield f"left out of the source folder, credentials, large files, links that lead out of it: {some(out)}"
    unread = [name for name in source_folder.IGNORE_FILES if (job.folder / name).is_file()]
    if unread and importlib.util.find_spec("pathspec") is None:
        yield f"pathspec is not installed, so {unread[0]} is not read. HINT: pip install 'lightning-sagemaker[submit]'"
    if absent := list(_absent(job.folder)):
        yield (
            f"{REQUIREMENTS} asks for what this environment lacks: {some(absent)}. HINT: pip install -r"
            f" {job.folder / REQUIREMENTS}"
        )


def _absent(folder: Path) -> Iterator[str]:
    """Requirements that are not met, each with what is here instead."""
    if not (lines := source_folder.requirements(folder)):
        return
    from packaging.requirements import InvalidRequirement, Requirement  # Lightning requires it; slow to import

    for line in lines:
        try:
            wanted = Requirement(line.partition(" #")[0].strip())
        except InvalidRequirement:  # an option, a path or a comment: pip's business
            continue
        if wanted.marker is not None and not wanted.marker.evaluate():
            continue
        version = installed_version(wanted.name)
        if version is None:
            yield str(wanted)
        elif not wanted.specifier.contains(version, prereleases=True):
            yield f"{wanted} ({version} is here)"
