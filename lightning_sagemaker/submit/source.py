"""The source folder: what of it is sent, and the archive that the training toolkit unpacks in the job."""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.arguments import ENTRY, ENTRY_ARGUMENTS, carry
from lightning_sagemaker.submit.requirements import REQUIREMENTS, needed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lightning_sagemaker.submit.training_job import TrainingJob

IGNORE_FILES = (".gitignore", ".sagemakerignore")  # the later one wins; `!name` sends a file after all
# What no job needs, in the words of .gitignore.
NEEDLESS = (
    *(".git/", "__pycache__/", "*.pyc", ".mypy_cache/", ".pytest_cache/", ".ruff_cache/", ".ipynb_checkpoints/"),
    *(
        ".env*",
        ".DS_Store",
        "node_modules/",
        ".idea/",
        ".vscode/",
        ".venv*/",
        "venv/",
        ".conda/",
        "*.egg-info/",
        "*.ckpt",
    ),
    # At the top only: further down such a name may be a package's.
    *("/lightning_logs/", "/wandb/", "/mlruns/", "/outputs/", "/multirun/", "/tb_logs/", "/checkpoints/"),
    *(ENTRY, ENTRY_ARGUMENTS),
)
# What nobody wants to send, with the names of their makers: each is named where it is found.
CREDENTIALS = (
    *(".aws/", ".ssh/", ".netrc", ".git-credentials", ".gnupg/", ".docker/", ".kaggle/", ".pypirc"),
    *(".config/gcloud/", ".azure/", ".huggingface/token", "id_rsa*", "id_ed25519*", "credentials.json"),
)
LARGE = 100_000_000  # bytes; a file of this size is data, which every host would fetch at the price of all


@dataclass(frozen=True)
class Source:
    """What of a folder is sent, and what is not.

    Attributes:
        files: Files and links, relative to the folder, with their sizes in bytes.
        credentials: Files that hold secrets, which are left out.
        large: Files that are left out since they are large, with their sizes.
        links: Links that are left out: they lead out of the folder, or nowhere.
    """

    files: dict[str, int]
    credentials: list[str]
    large: dict[str, int]
    links: list[str]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(self.files.values())


def read(folder: Path) -> Source:
    """Decide what of a folder is sent.

    Args:
        folder: The source folder; ``.gitignore`` and ``.sagemakerignore`` in it say what is left out.

    Raises:
        ImportError: ``pathspec``, which understands these files, is not installed.
    """
    asked = [line for name in IGNORE_FILES for line in _lines(folder / name)]
    ignored, secret = _spec([*NEEDLESS, *CREDENTIALS, *asked]), _spec(CREDENTIALS)
    found = Source({}, [], {}, [])
    for path in _walk(folder, ignored, secret, found.credentials):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            if not path.exists() or not path.resolve().is_relative_to(folder.resolve()):
                found.links.append(name)
                continue
            found.files[name] = 0
        elif path.is_file():  # and no pipe or socket
            size = path.stat().st_size
            (found.large if size > LARGE and not _kept(asked, name) else found.files)[name] = size
    return found


def _walk(folder: Path, ignored: Any, secret: Any, credentials: list[str]) -> Iterator[Path]:
    """Files and links that are not ignored; links are not followed."""
    for here, folders, files in os.walk(folder):
        kept = []
        for name in sorted([*folders, *files]):
            path = Path(here, name)
            is_folder = name in folders and not path.is_symlink()
            text = path.relative_to(folder).as_posix() + "/" * is_folder
            if ignored.match_file(text):
                if secret.match_file(text):
                    credentials.append(text)
            elif is_folder:
                kept.append(name)
            else:
                yield path
        folders[:] = kept


def python_files(folder: Path) -> Iterator[Path]:
    """The scripts that are sent."""
    return (folder / name for name in read(folder).files if name.endswith(".py"))


def archive(job: TrainingJob, source: Source, target: Path, wheels: list[Path]) -> None:
    """Write the archive that is sent; the user's folder stays as it is.

    Args:
        job: The job.
        source: What of its folder is sent.
        target: The archive.
        wheels: Wheels that lie beside ``requirements.txt``, which names them.
    """
    carried = carry(job.arguments)
    with tarfile.open(target, "w:gz") as tar, tempfile.TemporaryDirectory() as folder:
        for name in source.files:
            if name != REQUIREMENTS:
                tar.add(job.folder / name, name, recursive=False)
        for wheel in wheels:
            tar.add(wheel, wheel.name)
        if carried.by_entry_script:
            carried.write(Path(folder), job.entry)
            for name in (ENTRY, ENTRY_ARGUMENTS):
                tar.add(Path(folder, name), name)
        own = job.folder / REQUIREMENTS
        lines = [own.read_text(encoding="utf-8").rstrip("\n")] if own.is_file() else []
        _add_text(tar, REQUIREMENTS, "\n".join([*lines, *needed(job, wheels)]).lstrip("\n") + "\n")


def _add_text(tar: tarfile.TarFile, name: str, text: str) -> None:
    content = text.encode()
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def _kept(asked: list[str], name: str) -> bool:
    """Whether an ignore file says that a file is sent after all."""
    return _spec([name, *asked]).match_file(name) is False


def _spec(lines: Sequence[str]) -> Any:
    try:
        from pathspec import GitIgnoreSpec
    except ImportError:
        raise ImportError(
            "pathspec is not installed, which reads .gitignore. HINT: pip install 'lightning-sagemaker[submit]'."
        ) from None
    return GitIgnoreSpec.from_lines(lines)
