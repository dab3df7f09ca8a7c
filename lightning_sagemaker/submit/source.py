"""What a job is sent with: its source folder, checked and packed, and its requirements.

Requirements are the user's, Lightning, and this package in the version that is installed here.
"""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from lightning_sagemaker.findings import fail, finding, ok, warn
from lightning_sagemaker.options import installed_version, one_line, printable, some
from lightning_sagemaker.redaction import redact
from lightning_sagemaker.source_folder import IGNORE_FILES, REQUIREMENTS, link_within, requirements, text_of
from lightning_sagemaker.submit.choices import full_version

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lightning_sagemaker.findings import Finding
    from lightning_sagemaker.source_folder import Source
    from lightning_sagemaker.submit.training_job import TrainingJob

OURS = "lightning-sagemaker"
_LIGHTNING = ("lightning", "pytorch-lightning")
ANY_LIGHTNING = "lightning>=2.2,!=2.6.2,!=2.6.3"
_MUCH = 500_000_000  # bytes of a source folder: every host fetches it at the price of the whole cluster
_SHOWN = 30  # files in the list


def check_source(job: TrainingJob, source: Source) -> Iterator[Finding]:
    """All checks of the source folder, as it was read."""
    yield _check_script(job, source)
    told = f"{len(source.files)} files, {source.size / 1e6:.1f} MB"
    if source.size <= _MUCH:
        yield ok("source folder", f"{told}.")
    else:
        largest = max(source.files, key=source.files.__getitem__)
        yield warn(
            "source folder",
            f"{told}, which every host downloads while all are paid for; the largest is {largest} with"
            f" {source.files[largest] / 1e6:.0f} MB. HINT: put data into a channel (--channel NAME=s3://...), or give"
            " --source-dir a smaller folder.",
        )
    if source.credentials:
        what = f"the folder holds credentials, which are left out: {some(source.credentials)}."
        fix = (
            f"HINT: --source-dir confirms that the rest is to be sent; `!NAME` in {IGNORE_FILES[-1]} sends one of them."
        )
        yield finding("credentials", "fail" if job.source_dir is None else "warn", what, fix)
    if source.large:
        large = [f"{name} ({size / 1e6:.0f} MB)" for name, size in source.large.items()]
        fix = f"HINT: put data into a channel (--channel NAME=s3://...). `!NAME` in {IGNORE_FILES[-1]} sends it."
        yield warn("large files", f"they are left out: {some(large)}.", fix)
    if source.links:
        what = f"they lead out of the folder or to nothing, and are left out: {some(source.links)}."
        yield warn("links", what, "HINT: nothing, or copy what they lead to into the folder.")
    yield from _check_requirements(job)


def archive(job: TrainingJob, source: Source, target: Path, wheels: list[Path]) -> None:
    """Write the archive that is sent, with wheels beside ``requirements.txt``; the user's folder is not changed."""
    with tarfile.open(target, "w:gz") as tar, tempfile.TemporaryDirectory() as folder:
        for name in (name for name in source.files if name != REQUIREMENTS):
            with suppress(FileNotFoundError):  # one that has gone since the folder was read, an editor's
                member = tar.gettarinfo(job.folder / name, name)
                if member.issym():
                    member.linkname = link_within(job.folder, name)
                    tar.addfile(member)
                else:
                    tar.add(job.folder / name, name)
        if job.carried.by_entry_script:
            job.carried.write(Path(folder), job.entry)
        lines = [*text_of(job.folder / REQUIREMENTS).splitlines(), *needed(job, [wheel.name for wheel in wheels])]
        text = "".join(f"{line}\n" for line in lines)
        Path(folder, REQUIREMENTS).write_text(text, encoding="utf-8", errors="surrogateescape")
        for path in (*Path(folder).iterdir(), *wheels):
            tar.add(path, path.name)


def listing(job: TrainingJob, source: Source) -> str:
    """The files that are sent, with their sizes, largest first, and the lines added to the requirements."""
    order = sorted(source.files.items(), key=lambda item: (-item[1], item[0]))
    lines = [f"{size / 1e3:10.1f} kB  {printable(name)}" for name, size in order[:_SHOWN]]
    if len(order) > _SHOWN:
        rest = sum(size for _, size in order[_SHOWN:])
        lines.append(f"{rest / 1e3:10.1f} kB  in {len(order) - _SHOWN} more files")
    names, told = described_wheels(job)
    added = redact(f"{REQUIREMENTS} gets: {', '.join(needed(job, names))}{f' (wheels: {told})' if told else ''}\n")
    return "\n".join([f"{job.folder}: {len(order)} files, {source.size / 1e6:.1f} MB", *lines, added])


def _check_script(job: TrainingJob, source: Source) -> Finding:
    if job.entry not in source.files:
        what = f"{job.entry} is left out of what is sent, by {' or '.join(IGNORE_FILES)} or for what it is."
        return fail("script", what, f"HINT: `!{job.entry}` in {IGNORE_FILES[-1]} sends it.")
    path = job.path
    try:
        ast.parse(path.read_bytes(), filename=str(path))
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        where = f"{path}, line {line}" if line else str(path)
        return fail("script", f"the script does not parse ({where}): {error}.", "HINT: mend it.")
    return ok("script", f"{job.entry} parses.")


def _check_requirements(job: TrainingJob) -> Iterator[Finding]:
    """Check the requirements: another torch would replace a build that matches the image's CUDA, EFA and SMDDP.

    And with an isolated network, pip gets nothing but the wheels that are sent.
    """
    from packaging.requirements import InvalidRequirement, Requirement  # Lightning requires it

    for line in [*requirements(job.folder), *job.requirements]:
        if name_of(line) != "torch" or job.image is not None:
            continue
        try:
            version = full_version(str(job.torch))
            fits = Requirement(line.split("#", 1)[0]).specifier.contains(version)
        except (InvalidRequirement, ValueError):
            continue  # pip names the one, the check of the image the other
        if not fits:
            what = f"{line.strip()!r} replaces torch {version} of the image, which is built for its CUDA and network."
            yield fail("requirements", what, "HINT: remove it, or choose the image with --torch.")
            break
    else:
        yield ok("requirements", "torch stays the image's.")
    lines = [*requirements(job.folder), *needed(job, [path.name for path in wheels(job)])]
    absent = {name: line.strip() for line in lines if not line.startswith("./") and (name := name_of(line)) != "torch"}
    absent.pop("", None)
    if job.network_isolation and absent:
        of_aws = job.image is None and not absent.keys().isdisjoint({*_LIGHTNING, OURS})  # whose images lack them
        what = f"the network is isolated, so that pip can fetch nothing: the image must have {some(absent.values())}."
        fix = "HINT: --image with them, or wheels of them and of what they need, each by --requirement."
        yield finding("requirements", "fail" if of_aws else "warn", what, fix)


def needed(job: TrainingJob, wheel_names: Sequence[str]) -> list[str]:
    """Lines that must be added to the folder's requirements: the job's, and what is not named there.

    That is Lightning and this package, in the versions that are installed here, or as one of the wheels that are sent.
    """
    given = [line for line in job.requirements if Path(line) not in job.wheels]
    named = {name_of(line) for line in [*requirements(job.folder), *given, *(f"./{name}" for name in wheel_names)]}
    lines = [*(f"./{name}" for name in wheel_names), *given]
    if not named & {*_LIGHTNING}:
        here = ((name, installed_version(name)) for name in _LIGHTNING)
        lines.append(next((f"{name}=={version}" for name, version in here if version), ANY_LIGHTNING))
    if OURS not in named:
        version = installed_version(OURS)
        lines.append(f"{OURS}=={version}" if version else OURS)
    return lines


def wheels(job: TrainingJob) -> list[Path]:
    """Wheels that are sent: the user's, and this package's or its source where no index has it and nobody names it."""
    named = {name_of(line) for line in [*requirements(job.folder), *job.requirements]}
    own = None if OURS in named else local_source()
    return [*job.wheels, *([own] if own is not None else [])]


def described_wheels(job: TrainingJob) -> tuple[list[str], str]:
    """Names of the wheels that are sent, as far as they are known before one is built, and where they come from."""
    paths = wheels(job)
    names = [path.name if path.suffix == ".whl" else "lightning_sagemaker-*.whl" for path in paths]
    return names, ", ".join(str(path) if path.suffix == ".whl" else f"one built from {path}" for path in paths)


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


def built(source: Path, folder: Path) -> Path:
    """A wheel, or that of this package's source, built in a folder."""
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
