"""The checks of the script and its folder."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from lightning_sagemaker.findings import fail, finding, ok, warn
from lightning_sagemaker.options import printable, some
from lightning_sagemaker.redaction import redact
from lightning_sagemaker.source_folder import IGNORE_FILES
from lightning_sagemaker.submit import requirements
from lightning_sagemaker.submit.choices import full_version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lightning_sagemaker.findings import Finding
    from lightning_sagemaker.source_folder import Source
    from lightning_sagemaker.submit.training_job import TrainingJob

_MUCH = 500_000_000  # bytes of a source folder: every host fetches it at the price of the whole cluster
_SHOWN = 30  # files in the list


def check(job: TrainingJob, source: Source) -> Iterator[Finding]:
    """All checks of the source folder, as it was read."""
    yield _check_script(job, source)
    yield _check_size(source)
    if source.credentials:
        what = f"the folder holds credentials, which are left out: {some(source.credentials)}."
        fix = (
            f"HINT: --source-dir confirms that the rest is to be sent; `!NAME` in {IGNORE_FILES[-1]} sends one of them."
        )
        yield finding("credentials", "fail" if job.source_dir is None else "warn", what, fix)
    if source.large:
        told = [f"{name} ({size / 1e6:.0f} MB)" for name, size in source.large.items()]
        fix = f"HINT: put data into a channel (--channel NAME=s3://...). `!NAME` in {IGNORE_FILES[-1]} sends it."
        yield warn("large files", f"they are left out: {some(told)}.", fix)
    if source.links:
        what = f"they lead out of the folder or to nothing, and are left out: {some(source.links)}."
        yield warn("links", what, "HINT: nothing, or copy what they lead to into the folder.")
    yield from _check_requirements(job)


def listing(job: TrainingJob, source: Source) -> str:
    """The files that are sent, with their sizes, largest first, and the lines added to the requirements."""
    order = sorted(source.files.items(), key=lambda item: (-item[1], item[0]))
    lines = [f"{size / 1e3:10.1f} kB  {printable(name)}" for name, size in order[:_SHOWN]]
    if len(order) > _SHOWN:
        rest = sum(size for _, size in order[_SHOWN:])
        lines.append(f"{rest / 1e3:10.1f} kB  in {len(order) - _SHOWN} more files")
    place = requirements.own_source(job)
    given = requirements.given_wheels(job)
    names = [*(path.name for path in given), *(["lightning_sagemaker-*.whl"] if place else [])]
    wheels = [*map(str, given), *([f"one built from {place}"] if place else [])]
    told = f" (wheels: {', '.join(wheels)})" if wheels else ""
    added = redact(f"{requirements.REQUIREMENTS} gets: {', '.join(requirements.needed(job, names))}{told}\n")
    return "\n".join([f"{job.folder}: {len(order)} files, {source.size / 1e6:.1f} MB", *lines, added])


def _check_script(job: TrainingJob, source: Source) -> Finding:
    if job.entry not in source.files:
        what = f"{job.entry} is left out of what is sent, by {' or '.join(IGNORE_FILES)} or for what it is."
        return fail("script", what, f"HINT: `!{job.entry}` in {IGNORE_FILES[-1]} sends it.")
    path = job.path
    try:
        ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        where = f"{path}, line {line}" if line else str(path)
        return fail("script", f"the script does not parse ({where}): {error}.", "HINT: mend it.")
    return ok("script", f"{job.entry} parses.")


def _check_size(source: Source) -> Finding:
    told = f"{len(source.files)} files, {source.size / 1e6:.1f} MB"
    if source.size <= _MUCH:
        return ok("source folder", f"{told}.")
    largest = max(source.files, key=source.files.__getitem__)
    return warn(
        "source folder",
        f"{told}, which every host downloads while all are paid for; the largest is {largest} with"
        f" {source.files[largest] / 1e6:.0f} MB. HINT: put data into a channel (--channel NAME=s3://...), or give"
        " --source-dir a smaller folder.",
    )


def _check_requirements(job: TrainingJob) -> Iterator[Finding]:
    """Check the requirements: another torch would replace a build that matches the image's CUDA, EFA and SMDDP."""
    from packaging.requirements import InvalidRequirement, Requirement  # Lightning requires it

    for line in [*requirements.own_lines(job.folder), *job.requirements]:
        if requirements.name_of(line) != "torch" or job.image is not None:
            continue
        try:
            version = full_version(str(job.torch))
            fits = Requirement(line.split("#", 1)[0]).specifier.contains(version)
        except (InvalidRequirement, ValueError):
            continue  # pip names the one, the check of the image the other
        if not fits:
            what = f"{line.strip()!r} replaces torch {version} of the image, which is built for its CUDA and network."
            yield fail("requirements", what, "HINT: remove it, or choose the image with --torch.")
            return
    yield ok("requirements", "torch stays the image's.")
