"""What the pages say in code, commands, links and tables is so."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

import lightning_sagemaker
import lightning_sagemaker.jobs
import lightning_sagemaker.submit
from lightning_sagemaker import cli
from lightning_sagemaker.settings import SETTINGS
from lightning_sagemaker.simulate.spec import DISTRIBUTIONS, Simulation

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PACKAGE = Path(lightning_sagemaker.__file__).parent  # also where the wheel is under test, without sources
PAGES = {
    path.relative_to(ROOT).as_posix(): path for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
}
PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)]+\.svg)\)")
FENCE = re.compile(r"^(`{3,})([^`\n]*)\n(.*?)^\1\s*$", re.MULTILINE | re.DOTALL)

# Blocks that are compiled only: page, a line of the block, why.
_SDK = "needs SageMaker's SDK, and would send a job; tests/submit does it with a fake AWS"
_GPU = "Lightning's FSDP needs GPUs"
NOT_RUN = (
    ("docs/checkpoints.md", "estimator = PyTorch(", _SDK),
    ("docs/doctor.md", "subprocess.run(", "the doctor imports everything once more; tests/doctor runs it"),
    ("docs/fsdp.md", 'trainer = Trainer(strategy="fsdp")', _GPU),
    ("docs/fsdp.md", 'trainer = Trainer(strategy="smddp_fsdp")', _GPU),
    ("docs/fsdp.md", "trainer = Trainer(strategy=SMDDPFSDPStrategy(", _GPU),
    ("docs/heterogeneous.md", "estimator = PyTorch(", _SDK),
    ("docs/jobs.md", "print(jobs(", "needs boto3, and jobs; tests/jobs runs it where both are"),
    ("docs/quick-start.md", "estimator = PyTorch(", _SDK),
    ("docs/quick-start.md", "subprocess.run(", "the doctor imports everything once more; tests/doctor runs it"),
    ("docs/quick-start.md", "trainer = ModelTrainer(", _SDK),
    ("docs/submit.md", "job = TrainingJob(", _SDK),
)
# What a page's reader has already.
_TRAINER = """
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel as model_class
model, data = model_class(), None
trainer = Trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=1, accelerator="cpu", logger=False)
"""
_WORK = """
download_tokenizer = lambda: "path"
build_index_if_missing = build_if_missing = lambda: None
"""
_SCRIPT = 'open("train.py", "w").write("print()")'
GIVEN = {"docs/checkpoints.md": _TRAINER, "docs/spot.md": _SCRIPT, "docs/locking.md": _WORK}


class Block(NamedTuple):
    page: str
    line: int
    language: str
    text: str


def _blocks(language: str) -> list[Block]:
    return [
        Block(name, text.count("\n", 0, found.start()) + 2, found[2].strip(), found[3])
        for name, text in ((name, path.read_text(encoding="utf-8")) for name, path in PAGES.items())
        for found in FENCE.finditer(text)
        if found[2].strip() == language
    ]


def _reason(block: Block) -> str | None:
    lines = block.text.splitlines()
    return next(
        (why for page, begin, why in NOT_RUN if page == block.page and any(line.startswith(begin) for line in lines)),
        None,
    )


# --- Python --------------------------------------------------------------------------------------------------------

_RUN_ALL = """
import contextlib, io, json, os, sys, tempfile, traceback, warnings
warnings.simplefilter("ignore")
for page, line, given, text in json.load(sys.stdin):
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        os.chdir(folder)
        names = {"__name__": "__main__"}
        try:
            exec(given, names)
            exec(compile("\\n" * (line - 1) + text, page, "exec"), names)
            problem = None
        except BaseException:
            problem = traceback.format_exc()
        os.chdir("/")
    if problem:
        print(f"{page}, line {line}:\\n{problem}", flush=True)
"""


def test_python_compiles() -> None:
    blocks = _blocks("python")
    assert len(blocks) > 15
    for block in blocks:
        compile("\n" * (block.line - 1) + block.text, block.page, "exec")


def test_python_runs(tmp_path: Path) -> None:
    blocks = [
        (block.page, block.line, GIVEN.get(block.page, ""), block.text)
        for block in _blocks("python")
        if _reason(block) is None
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LIGHTNING_SAGEMAKER_")}
    done = subprocess.run(
        [sys.executable, "-c", _RUN_ALL],
        input=json.dumps(blocks),
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**environment, "TMPDIR": str(tmp_path), "LIGHTNING_SAGEMAKER_LOCK_DIR": str(tmp_path)},
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


def test_each_exception_is_of_use() -> None:
    used = {(block.page, _reason(block)) for block in _blocks("python")}
    assert not [page for page, _, why in NOT_RUN if (page, why) not in used]
    assert not [page for page in GIVEN if page not in PAGES]


# --- commands ------------------------------------------------------------------------------------------------------


def _commands(block: Block) -> Iterator[list[str]]:
    for line in block.text.replace("\\\n", " ").splitlines():
        words = [word for word in shlex.split(line, comments=True) if word != "..."]
        if words:
            yield words


@pytest.mark.parametrize("block", [pytest.param(block, id=f"{block.page}:{block.line}") for block in _blocks("sh")])
def test_commands_parse(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[argparse.Namespace] = []

    def run(arguments: argparse.Namespace) -> int:
        parsed.append(arguments)
        return 0

    for name in cli._COMMANDS:
        monkeypatch.setattr(cli._command(name), "run", run)
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for words in _commands(block):
        if words[0] == "make":
            assert words[1] in targets
        elif words[0] == "lightning-sagemaker":
            assert cli.main(words[1:]) == 0
        elif words[0] == "python":
            assert (ROOT / words[2 if words[1] == "-m" else 1]).exists()
        else:
            assert words[:2] == ["pip", "install"], "a command that nobody has checked"
    for arguments in parsed:
        if "distribution" in arguments:
            assert arguments.distribution in DISTRIBUTIONS[getattr(arguments, "sdk", Simulation.sdk)]


def test_extras_exist() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for name, path in PAGES.items():
        for extra in re.findall(r"lightning-sagemaker\[(\w+)\]", path.read_text(encoding="utf-8")):
            assert re.search(rf"^{extra} = \[", project, re.MULTILINE), f"{name}: {extra}"


# --- links ---------------------------------------------------------------------------------------------------------


def _prose(path: Path) -> str:
    return re.sub(r"(`+)[^`].*?\1", "", FENCE.sub("", path.read_text(encoding="utf-8")))


def _anchors(path: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub and MyST name them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")
        assert anchor not in found, f"{path.name}: two headings {heading!r}"
        found.add(anchor)
    return found


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    path = PAGES[page]
    for target in re.findall(r"\]\(([^)\s]+)\)", _prose(path)):
        if re.match(r"https?://", target):
            continue
        file, _, anchor = target.partition("#")
        to = path if not file else (path.parent / file).resolve()
        assert to.is_file(), target
        if anchor:
            assert anchor in _anchors(to), target


def test_each_page_is_in_the_index() -> None:
    listed = {
        line
        for page in PAGES.values()
        for block in FENCE.finditer(page.read_text(encoding="utf-8"))
        if block[2] == "{toctree}"
        for line in block[3].split()
    }
    pages = {page.removeprefix("docs/").removesuffix(".md") for page in PAGES if page.startswith("docs/")}
    assert {page for page in pages if not page.startswith("benchmarks")} - {"index"} <= listed


# --- tables --------------------------------------------------------------------------------------------------------


def _rows(page: str, begin: str = "", end: str = "\0") -> list[list[str]]:
    text = PAGES[page].read_text(encoding="utf-8").partition(begin)[2].partition(end)[0]
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| `")
    ]


def test_settings_are_those_of_the_package() -> None:
    listed = [row[0].strip("`") for row in _rows("docs/settings.md", "# Settings", "## Variables of others")]
    found = {
        name
        for path in PACKAGE.rglob("*.py")
        for name in re.findall(r"LIGHTNING_SAGEMAKER_[A-Z]+(?:_[A-Z]+)*\b", path.read_text(encoding="utf-8"))
    } | {*SETTINGS}
    assert sorted(listed) == sorted(found)


def test_public_names_are_listed() -> None:
    page = PAGES["docs/api.md"].read_text(encoding="utf-8")
    documented = {name.rpartition(".")[2] for name in re.findall(r"^\.\. auto\w+:: (\S+)$", page, re.MULTILINE)}
    for module in (lightning_sagemaker, lightning_sagemaker.jobs, lightning_sagemaker.submit):
        assert {*module.__all__} <= documented


def test_pictures_are_there_and_have_words_for_those_who_cannot_see_them() -> None:
    found = [
        (page, alt, file) for page, path in PAGES.items() for alt, file in PICTURE.findall(path.read_text("utf-8"))
    ]
    assert len(found) >= 4
    for page, alt, file in found:
        assert alt, page
        text = (PAGES[page].parent / file).read_text(encoding="utf-8")
        assert "<title>" in text, file
        assert "prefers-color-scheme: dark" in text, file


def _part(parts: tuple[str, ...]) -> str:
    return parts[1] if len(parts) > 1 else "__init__"


def _imports() -> dict[str, set[str]]:
    """Which part of the package imports which others, but for annotations."""
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        if {"fake_smddp", "site"} & set(parts):
            continue
        part = _part(parts)
        others = found.setdefault(part, set())
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for_annotations = {
            id(node)
            for guard in ast.walk(tree)
            if isinstance(guard, ast.If) and ast.unparse(guard.test) == "TYPE_CHECKING"
            for node in ast.walk(guard)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and id(node) not in for_annotations:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                others |= {_part(tuple(name.split("."))) for name in names if name.startswith("lightning_sagemaker.")}
        others.discard(part)
    return found


def test_architecture_is_that_of_the_code() -> None:
    rows = _rows("docs/architecture.md", "<!-- imports: begin -->", "<!-- imports: end -->")
    told = {row[0].strip("`"): set(re.findall(r"`(\w+)`", row[1])) for row in rows}
    found = _imports()
    assert found.pop("__init__") == {"_autoload"}
    assert told == found
    above: set[str] = set()
    for part, others in told.items():
        assert others <= above, f"an arrow of {part} points up"
        above.add(part)
