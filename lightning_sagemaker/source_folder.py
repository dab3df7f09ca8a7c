"""The source folder of a job: what of it reaches the job's hosts, and what does not."""

from __future__ import annotations

import codecs
import os
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.arguments import ENTRY, ENTRY_ARGUMENTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

REQUIREMENTS = "requirements.txt"
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
IGNORE_FILES = (".gitignore", ".sagemakerignore")  # the later one wins; `!name` sends a file after all
# What no job needs, in the words of .gitignore.
NEEDLESS = (
    *(".git/", "__pycache__/", "*.pyc", ".mypy_cache/", ".pytest_cache/", ".ruff_cache/", ".ipynb_checkpoints/"),
    *(".env*", ".DS_Store", "node_modules/", ".idea/", ".vscode/", ".venv*/", "venv/", ".conda/"),
    *("*.egg-info/", "*.ckpt"),
    # At the top only: further down such a name may be a package's.
    *("/lightning_logs/", "/wandb/", "/mlruns/", "/outputs/", "/multirun/", "/tb_logs/", "/checkpoints/"),
    *(ENTRY, ENTRY_ARGUMENTS),
)
_ENVIRONMENTS = ("pyvenv.cfg", "conda-meta")  # in the folder of a virtual environment, whatever its name
# What nobody wants to send, with the names of their makers: each is named where it is found.
CREDENTIALS = (
    *(".aws/", ".ssh/", ".netrc", ".git-credentials", ".gnupg/", ".docker/", ".kaggle/", ".pypirc"),
    *(".config/gcloud/", ".azure/", ".huggingface/token", "id_rsa*", "id_ed25519*", "credentials.json"),
)
LARGE = 100_000_000  # bytes; a file of this size is data, which every host would fetch at the price of all


@dataclass(frozen=True)
class Source:
    """What of a folder is sent, and what is not: names relative to it."""

    files: dict[str, int]  # and links, with their sizes in bytes
    credentials: list[str]  # hold secrets, and are left out
    large: dict[str, int]  # left out, with their sizes
    links: list[str]  # left out: they lead out of the folder, or nowhere

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(self.files.values())


def read(folder: Path, *, ignore_files: bool = True) -> Source:
    """Decide what of a folder is sent; an ``ImportError`` without ``pathspec``, which reads its ignore files."""
    asked = [line for name in IGNORE_FILES for line in text_of(folder / name).splitlines()] if ignore_files else []
    matcher = _matcher if ignore_files else _Names
    ignored, secret = matcher([*NEEDLESS, *CREDENTIALS, *asked]), matcher(CREDENTIALS)
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
            # A large one is sent if an ignore file says so.
            sent = size <= LARGE or (asked and _matcher(asked).check_file(name).include is False)
            (found.files if sent else found.large)[name] = size
    return found


def text_of(path: Path) -> str:
    """Text of a file in the encoding that its first bytes tell, as Windows writes it; empty without the file.

    Bytes that are no text stay what they are where it is written with ``surrogateescape``; half a character of UTF-16
    is a ``ValueError``.
    """
    content = path.read_bytes() if path.is_file() else b""
    encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding, "surrogateescape")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{str(path)!r} begins as {encoding} text and is none ({error.reason}). HINT: save it as UTF-8."
        ) from None


def requirements(folder: Path, name: str = REQUIREMENTS, known: frozenset[Path] = frozenset()) -> list[str]:
    """Lines of a folder's requirements, and of the files that they include by ``-r``."""
    path = folder / name
    if path in known:
        return []
    found = []
    for line in text_of(path).splitlines():
        included = re.match(r"\s*(?:-r|--requirement)[\s=]*([^\s#]+)", line)
        found += requirements(path.parent, included[1], known | {path}) if included else [line]
    return found


def is_too_broad(folder: Path) -> bool:
    """Whether a folder is a home, root or temporary one, whose files nobody wants in a job."""
    home = os.path.expanduser("~")  # noqa: PTH111 - not an error for a user without a home
    return folder.resolve() in {Path(place).resolve() for place in (home, "/", gettempdir())}


def link_within(folder: Path, name: str) -> str:
    """Where a link within a folder leads in its copy: an absolute one leads to this folder, which no host has."""
    path = folder.resolve() / name
    target = path.readlink()
    return os.path.relpath(path.resolve(), path.parent.resolve()) if target.is_absolute() else str(target)


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
                if not any(Path(path, mark).exists() for mark in _ENVIRONMENTS):
                    kept.append(name)
            else:
                yield path
        folders[:] = kept


def _matcher(lines: Sequence[str]) -> Any:
    try:
        from pathspec import GitIgnoreSpec
    except ImportError:
        raise ImportError(
            "pathspec, which reads .gitignore, is not installed. HINT: pip install 'lightning-sagemaker[submit]'."
        ) from None
    return GitIgnoreSpec.from_lines(lines)


class _Names:
    """Patterns without pathspec: names, at the top alone after a slash, of folders before one."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = patterns

    def match_file(self, path: str) -> bool:
        plain = path.rstrip("/")
        name = plain.rpartition("/")[2]
        return any(
            fnmatchcase(plain if "/" in pattern.rstrip("/") else name, pattern.strip("/"))
            for pattern in self._patterns
            if path.endswith("/") or not pattern.endswith("/")
        )
