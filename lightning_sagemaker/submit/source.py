"""The source folder: what is read from it, and the copy that is sent."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_sagemaker.folders import walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

# What no job needs; `shutil.ignore_patterns` understands these.
IGNORED = (
    *(".git", ".venv", "venv", ".env", "__pycache__", "*.pyc", ".mypy_cache", ".pytest_cache", ".ruff_cache"),
    *(".DS_Store", ".ipynb_checkpoints", "lightning_logs", "node_modules"),
)
_needless = shutil.ignore_patterns(*IGNORED)
REQUIREMENTS = "requirements.txt"
OURS = "lightning-sagemaker"
_LIGHTNING = ("lightning", "pytorch-lightning")
_ANY_LIGHTNING = "lightning>=2.2,!=2.6.2,!=2.6.3"


def files(folder: Path) -> Iterator[Path]:
    """All files that would be sent."""
    return walk(folder, lambda path: bool(_needless(str(path.parent), [path.name])))


def logged_names(folder: Path) -> list[str]:
    """Names that the scripts in a folder give to ``self.log("name", ...)``, as far as they are constants.

    Lightning adds ``_step`` and ``_epoch`` where both are logged, so both stand for such a name.
    """
    names: set[str] = set()
    for path in files(folder):
        if path.suffix == ".py" and path.is_file():  # and no pipe
            try:
                tree = ast.parse(path.read_text(encoding="utf-8"))
            except (OSError, ValueError, SyntaxError):  # the checks name a script that does not parse
                continue
            for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
                if isinstance(call.func, ast.Attribute):
                    names.update(_names(call, call.func.attr))
    return sorted(names)


def _names(call: ast.Call, method: str) -> Iterator[str]:
    if method not in ("log", "log_dict") or not call.args:
        return
    first = call.args[0]
    keys: Iterable[ast.expr | None] = [first] if method == "log" else first.keys if isinstance(first, ast.Dict) else []
    both = {
        keyword.arg
        for keyword in call.keywords
        if keyword.arg in ("on_step", "on_epoch") and getattr(keyword.value, "value", None) is True
    }
    for key in keys:
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            yield key.value
            if len(both) == 2:  # noqa: PLR2004 - on_step and on_epoch
                yield f"{key.value}_epoch"


def needed(folder: Path, further: Sequence[str]) -> list[str]:
    """Lines that the job's requirements need beyond those that the folder has.

    This package and Lightning, in the versions that are installed here, unless the folder or ``further`` names them.

    Args:
        folder: Source folder.
        further: Lines that the user adds; a path of a wheel stands for that wheel, which is sent along.
    """
    path = folder / REQUIREMENTS
    own = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    lines = [f"./{Path(line).name}" if Path(line).suffix == ".whl" else line for line in further]
    named = {_name(line) for line in [*own, *lines]}
    if not named & {*_LIGHTNING}:
        lines.append(next((f"{name}=={version}" for name in _LIGHTNING if (version := _version(name))), _ANY_LIGHTNING))
    if OURS not in named:
        version = _version(OURS)
        lines.append(f"{OURS}=={version}" if version else OURS)
    return lines


def stage(folder: Path, target: Path, lines: Sequence[str], wheels: Sequence[str]) -> None:
    """Make the copy that is sent; the user's folder stays as it is.

    Args:
        folder: Source folder.
        target: Where the copy shall be; it must not exist.
        lines: Lines for the end of its ``requirements.txt``.
        wheels: Wheels that lie beside it then.
    """
    shutil.copytree(folder, target, ignore=_ignore)
    for wheel in wheels:
        shutil.copy(wheel, target)
    path = target / REQUIREMENTS
    own = path.read_text(encoding="utf-8") if path.is_file() else ""
    path.write_text("\n".join([own.rstrip("\n"), *lines]).lstrip("\n") + "\n", encoding="utf-8")


def _ignore(folder: str, names: list[str]) -> set[str]:
    """Which names in a folder are left out: what no job needs, and links back to a folder in which they lie."""
    here = Path(folder).absolute()
    links = (here / name for name in names if (here / name).is_symlink() and (here / name).is_dir())
    return _needless(folder, names) | {link.name for link in links if any(map(link.samefile, (here, *here.parents)))}


def _name(line: str) -> str:
    """Distribution that a line of requirements names, as PEP 503 writes it."""
    text = Path(line).name.partition("-")[0] if line.endswith(".whl") else line.split("#", 1)[0].strip()
    found = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", text)
    return re.sub(r"[-_.]+", "-", found[0]).lower() if found else ""


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
