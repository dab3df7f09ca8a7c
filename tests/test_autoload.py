"""Detection without import: what a real interpreter does when torch, Lightning or this package is imported.

Each case is a process of its own. Where only the mechanism matters, a fake with the shape of Lightning's two
connectors takes Lightning's place (`fake`); the import orders are those of the real one.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
import sysconfig
import textwrap
import venv
import zipfile
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

import lightning_sagemaker
from lightning_sagemaker import _autoload

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., "Finished"]

PACKAGE = Path(lightning_sagemaker.__file__).parent  # also where the wheel is under test, without sources
PTH = PACKAGE.with_suffix(".pth")
HAS_LIGHTNING = importlib.util.find_spec("lightning") is not None
ONLY_PYTORCH_LIGHTNING = "the distribution `lightning` is not installed"
needs_lightning = pytest.mark.skipif(not HAS_LIGHTNING, reason=ONLY_PYTORCH_LIGHTNING)
OURS = {"lightning_sagemaker", "lightning_sagemaker._autoload"}
JOB = {"TRAINING_JOB_NAME": "digits"}
NO_ENTRY_POINTS = {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}
OFF = {"LIGHTNING_SAGEMAKER_AUTOLOAD": "0"}

CONNECTOR = """
class _Connector:
    def _choose_and_init_cluster_environment(self): ...
    def _set_devices_flag_if_auto_passed(self): ...
    def _lazy_init_strategy(self): ...
"""

FABRIC = "lightning.fabric.connector"
TRAINER = "lightning.pytorch.trainer.connectors.accelerator_connector"
LIGHTNING_FABRIC = "lightning_fabric.connector"
PYTORCH_LIGHTNING = "pytorch_lightning.trainer.connectors.accelerator_connector"

# Appended to a case (`report=True`): prints which connectors are imported, and whether we wrapped them. It imports
# nothing of ours.
REPORT = f"""
import json, sys
def is_patched(module):
    connector = getattr(module, "_AcceleratorConnector", None) or module._Connector
    return hasattr(connector._choose_and_init_cluster_environment, "__wrapped__")
names = {FABRIC!r}, {TRAINER!r}, {LIGHTNING_FABRIC!r}, {PYTORCH_LIGHTNING!r}
print(json.dumps({{name: is_patched(sys.modules[name]) for name in names if name in sys.modules}}))
"""


class Finished:
    """A process that ended: its code, its texts, and the JSON that its last line holds."""

    def __init__(self, process: subprocess.CompletedProcess[str]) -> None:
        self.code = process.returncode
        self.stdout = process.stdout
        self.stderr = process.stderr

    @property
    def report(self) -> Any:
        assert self.code == 0, self.stderr
        return json.loads(self.stdout.splitlines()[-1])


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run code in a new interpreter, in an empty folder, outside any job."""
    folder = tmp_path / "cwd"
    folder.mkdir()
    foreign = ("SM_", "SAGEMAKER", "TRAINING_JOB", "LIGHTNING_SAGEMAKER", "TORCH", "PYTHON", "COV_", "SLURM", "OMPI_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}

    def run(
        code: str,
        *,
        report: bool = False,
        path: tuple[Path, ...] = (),
        environ: dict[str, str] | None = None,
        python: Path | None = None,
    ) -> Finished:
        return Finished(
            subprocess.run(
                [str(python or sys.executable), "-c", textwrap.dedent(code) + (REPORT if report else "")],
                env={**inherited, "PYTHONPATH": os.pathsep.join(map(str, path)), **(environ or {})},
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=280,
                check=False,
            )
        )

    return run


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    """A folder for PYTHONPATH whose `lightning_fabric` has a connector, and nothing else."""
    package = tmp_path / "fake" / "lightning_fabric"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "connector.py").write_text(CONNECTOR)
    (package / "other.py").write_text("VALUE = 1")
    return package.parent


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder for PYTHONPATH with an installed copy of this package, to be damaged."""
    folder = tmp_path / "copy"
    shutil.copytree(PACKAGE, folder / "lightning_sagemaker", ignore=shutil.ignore_patterns("__pycache__"))
    information = folder / "lightning_sagemaker-0.1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: lightning-sagemaker\nVersion: 0.1.0\n")
    (information / "entry_points.txt").write_text(
        "[torch.backends]\nlightning_sagemaker = lightning_sagemaker._autoload:autoload\n"
    )
    return folder


@pytest.fixture
def without_lightning(tmp_path: Path) -> Path:
    """Interpreter of an environment that has everything of this one, but no Lightning and no `.pth` file."""
    packages = tmp_path / "site"
    packages.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith(("lightning", "pytorch_lightning", "_", "__")) and entry.suffix != ".pth":
            (packages / entry.name).symlink_to(entry)
    return _environment(tmp_path / "without", f"{packages}\n")


@pytest.fixture
def with_pth(tmp_path: Path) -> Path:
    """Interpreter of an environment that has everything of this one, and this repository's `.pth` file."""
    python = _environment(tmp_path / "with", f"{PACKAGE.parent}\n{sysconfig.get_path('purelib')}\n")
    shutil.copy(PTH, next((python.parents[1] / "lib").glob("python*")) / "site-packages")
    return python


def _environment(folder: Path, pth: str) -> Path:
    venv.EnvBuilder(symlinks=True, with_pip=False).create(folder)
    packages = next((folder / "lib").glob("python*")) / "site-packages"
    (packages / "__everything.pth").write_text(pth)
    return folder / "bin" / "python"


# --- `import torch` does not fail, print or import because of us -----------------------------------------------------


def test_importing_torch_is_silent_where_lightning_is_absent(run: Run, copy: Path, without_lightning: Path) -> None:
    done = run(
        """
        import torch, json, sys, importlib.util
        assert importlib.util.find_spec("lightning_fabric") is None and importlib.util.find_spec("lightning") is None
        print(json.dumps([name for name in sys.modules if "lightning" in name]))
        """,
        path=(copy,),
        python=without_lightning,
    )
    assert set(done.report) == OURS
    assert (done.stderr, len(done.stdout.splitlines())) == ("", 1)


def test_importing_torch_is_silent_with_half_an_installation_of_lightning(run: Run, tmp_path: Path) -> None:
    for name in ("lightning", "lightning_fabric", "pytorch_lightning"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("from nowhere import to_be_found")
    done = run("import torch", path=(tmp_path,))
    assert (done.code, done.stdout, done.stderr) == (0, "", "")


def test_importing_torch_is_silent_with_half_an_installation_of_ours(run: Run, copy: Path) -> None:
    shutil.rmtree(copy / "lightning_sagemaker" / "patches")
    (copy / "lightning_sagemaker" / "environment.py").write_text("half a line (")
    shutil.rmtree(copy / "lightning_sagemaker" / "job")
    done = run(
        "import torch, sys; assert sys.modules['lightning_sagemaker'].__file__.startswith(sys.path[1])", path=(copy,)
    )
    assert (done.code, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "sabotage",
    [
        "sys.meta_path = tuple(sys.meta_path)",
        "Raising = type('Raising', (list,), {'insert': lambda *_: 1 / 0}); sys.meta_path = Raising(sys.meta_path)",
    ],
    ids=["a tuple as meta_path", "a meta_path that raises"],
)
def test_importing_torch_succeeds_where_the_hook_fails(run: Run, sabotage: str) -> None:
    done = run(f"import sys; {sabotage}\nimport torch\nprint(torch.ones(2).sum().item())")
    assert (done.code, done.stdout) == (0, "2.0\n")
    assert done.stderr.startswith("lightning-sagemaker could not be loaded. HINT: LIGHTNING_SAGEMAKER_AUTOLOAD=0")


def test_the_hook_survives_a_log_handler_that_raises(run: Run) -> None:
    done = run(
        """
        import logging, sys
        class Raising(logging.Handler):
            def handle(self, record): raise RuntimeError("from the handler")
        logging.getLogger().addHandler(Raising())
        sys.meta_path = tuple(sys.meta_path)
        import lightning_sagemaker
        """
    )
    assert (done.code, done.stdout, done.stderr) == (0, "", "")


def test_the_hook_of_torch_adds_two_modules_and_no_lightning(run: Run) -> None:
    done = run(
        """
        import torch, importlib.metadata, json, sys
        entry, = {each for each in importlib.metadata.entry_points(group="torch.backends")
                  if each.name == "lightning_sagemaker"}
        before = set(sys.modules)
        entry.load()()
        print(json.dumps(sorted(set(sys.modules) - before)))
        """,
        environ=NO_ENTRY_POINTS,
    )
    assert set(done.report) == OURS


def test_importing_the_package_adds_two_modules_beside_the_standard_library(run: Run) -> None:
    done = run(
        """
        import json, sys
        before = set(sys.modules)
        import lightning_sagemaker
        added = set(sys.modules) - before
        print(json.dumps([name for name in added if name.partition(".")[0] not in sys.stdlib_module_names]))
        """
    )
    assert set(done.report) == OURS


def test_the_hook_leaves_logging_unconfigured(run: Run) -> None:
    done = run(
        """
        import json, logging, lightning_sagemaker
        log = logging.getLogger("lightning_sagemaker")
        print(json.dumps([logging.root.handlers, log.handlers, log.level, log.propagate]))
        """
    )
    assert done.report == [[], [], 0, True]


# --- the finder ------------------------------------------------------------------------------------------------------


def test_a_connector_imported_after_the_hook_is_patched(run: Run, fake: Path) -> None:
    done = run("import lightning_sagemaker, lightning_fabric.connector", report=True, path=(fake,))
    assert done.report == {LIGHTNING_FABRIC: True}


def test_a_connector_imported_before_the_hook_is_patched(run: Run, fake: Path) -> None:
    done = run("import lightning_fabric.connector, lightning_sagemaker", report=True, path=(fake,))
    assert done.report == {LIGHTNING_FABRIC: True}


def test_our_class_is_of_lightning_s_kind_although_it_was_imported_first(run: Run, fake: Path) -> None:
    environments = fake / "lightning_fabric" / "plugins" / "environments"
    environments.mkdir(parents=True)
    (environments / "cluster_environment.py").write_text("import abc\nclass ClusterEnvironment(abc.ABC): ...")
    name = "lightning_fabric.plugins.environments.cluster_environment"
    (fake / "lightning_fabric" / "connector.py").write_text(f"from {name} import ClusterEnvironment\n{CONNECTOR}")
    done = run(
        """
        from lightning_sagemaker import SageMakerEnvironment
        import json, lightning_fabric.connector
        print(json.dumps(issubclass(SageMakerEnvironment, lightning_fabric.connector.ClusterEnvironment)))
        """,
        path=(fake,),
    )
    assert done.report is True


@pytest.mark.parametrize("value", ["0", "false", "False", "no", "OFF"])
def test_the_off_switch_leaves_meta_path_and_connectors_untouched(run: Run, fake: Path, value: str) -> None:
    done = run(
        """
        import sys
        before = list(sys.meta_path)
        import lightning_sagemaker, lightning_fabric.connector
        assert sys.meta_path == before
        """,
        report=True,
        path=(fake,),
        environ={"LIGHTNING_SAGEMAKER_AUTOLOAD": value},
    )
    assert done.report == {LIGHTNING_FABRIC: False}


@pytest.mark.parametrize("value", ["", "1", "true", "perhaps"])
def test_other_values_of_the_off_switch_leave_detection_on(run: Run, fake: Path, value: str) -> None:
    done = run(
        "import lightning_sagemaker, lightning_fabric.connector",
        report=True,
        path=(fake,),
        environ={"LIGHTNING_SAGEMAKER_AUTOLOAD": value},
    )
    assert done.report == {LIGHTNING_FABRIC: True}
    warned = "lightning-sagemaker stays on: Environment variable `LIGHTNING_SAGEMAKER_AUTOLOAD`='perhaps'; expected 1"
    assert (warned in done.stderr) == (value == "perhaps")


def test_many_calls_of_the_hook_have_the_effect_of_one(run: Run, fake: Path) -> None:
    done = run(
        """
        import json, sys
        before = len(sys.meta_path)
        from lightning_sagemaker._autoload import autoload
        import lightning_fabric.connector
        wrapped = lightning_fabric.connector._Connector._choose_and_init_cluster_environment
        autoload(); autoload()
        again = lightning_fabric.connector._Connector._choose_and_init_cluster_environment
        print(json.dumps([len(sys.meta_path) - before, again is wrapped, hasattr(wrapped.__wrapped__, "__wrapped__")]))
        """,
        path=(fake,),
    )
    assert done.report == [1, True, False]


def test_a_second_copy_of_the_hook_does_not_search_without_end(run: Run, fake: Path) -> None:
    done = run(
        """
        import sys, lightning_sagemaker
        for name in [name for name in sys.modules if name.startswith("lightning_sagemaker")]:
            del sys.modules[name]
        import lightning_sagemaker, lightning_fabric.connector
        """,
        report=True,
        path=(fake,),
    )
    assert done.report == {LIGHTNING_FABRIC: True}


def test_a_reloaded_hook_does_not_search_without_end(run: Run, fake: Path) -> None:
    done = run(
        """
        import importlib, lightning_sagemaker._autoload
        importlib.reload(lightning_sagemaker._autoload).autoload()
        import lightning_fabric.connector
        """,
        report=True,
        path=(fake,),
    )
    assert done.report == {LIGHTNING_FABRIC: True}


@pytest.mark.parametrize("position", ["0", "1"])
def test_another_finder_that_asks_all_the_others_does_not_search_without_end(
    run: Run, fake: Path, position: str
) -> None:
    done = run(
        f"""
        import sys, lightning_sagemaker
        class Asking:
            def find_spec(self, name, path=None, target=None):
                specs = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self)
                return next(filter(None, specs), None)
        sys.meta_path.insert({position}, Asking())
        import lightning_fabric.connector
        """,
        report=True,
        path=(fake,),
    )
    assert done.report == {LIGHTNING_FABRIC: True}


def test_a_finder_of_the_old_protocol_is_skipped(run: Run, fake: Path) -> None:
    done = run(
        """
        import sys, lightning_sagemaker
        class Old:
            def find_module(self, name, path=None): return None
        sys.meta_path.insert(1, Old())
        import lightning_fabric.connector
        """,
        report=True,
        path=(fake,),
    )
    assert done.report == {LIGHTNING_FABRIC: True}


def test_lightning_in_a_zip_file_is_patched_without_a_complaint(run: Run, fake: Path, tmp_path: Path) -> None:
    archive = tmp_path / "lightning.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        for path in fake.rglob("*.py"):
            zipped.write(path, path.relative_to(fake))
    done = run(
        "import lightning_sagemaker, lightning_fabric.connector, lightning_fabric.other", report=True, path=(archive,)
    )
    assert done.report == {LIGHTNING_FABRIC: True}
    assert done.stderr == ""


def test_a_connector_whose_loader_cannot_be_watched_is_imported_with_a_complaint(run: Run, fake: Path) -> None:
    done = run(
        """
        import importlib.util, lightning_sagemaker, sys
        class Loader:
            __slots__ = ()
            def create_module(self, spec): return None
            def exec_module(self, module): module._Connector = type("_Connector", (), {})
        class Finder:
            def find_spec(self, name, path=None, target=None):
                return importlib.util.spec_from_loader(name, Loader()) if name.endswith(".connector") else None
        sys.meta_path.insert(1, Finder())
        import lightning_fabric.connector
        print(lightning_fabric.connector._Connector.__name__)
        """,
        path=(fake,),
    )
    assert (done.code, done.stdout) == (0, "_Connector\n")
    assert "cannot watch the import of lightning_fabric.connector. HINT: LIGHTNING_SAGEMAKER_AUTO" in done.stderr


def test_an_unknown_lightning_is_imported_with_a_complaint(run: Run, fake: Path) -> None:
    (fake / "lightning_fabric" / "connector.py").write_text("class _Connector: ...")
    done = run("import lightning_sagemaker, lightning_fabric.connector", report=True, path=(fake,))
    assert done.code != 0  # the report finds no method to look at
    assert "lightning-sagemaker cannot serve <module 'lightning_fabric.connector'" in done.stderr


def test_a_patch_that_fails_leaves_those_of_the_same_module_out_of_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    module = ModuleType("lightning.pytorch.trainer.connectors.signal_connector")
    served: list[ModuleType] = []
    first, second = _autoload._MODULES[module.__name__]
    monkeypatch.setattr(f"lightning_sagemaker.patches.{first}", lambda _module: 1 / 0)
    monkeypatch.setattr(f"lightning_sagemaker.patches.{second}", served.append)
    monkeypatch.setattr(logging.getLogger("lightning_sagemaker"), "propagate", True)
    _autoload._activate(module)
    assert served == [module]
    assert "cannot serve" in caplog.text


def test_a_lightning_that_lacks_a_place_of_a_patch_is_left_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Connector:
        def _set_devices_flag_if_auto_passed(self) -> None: ...
        def _choose_and_init_cluster_environment(self) -> None: ...

    before = dict(vars(Connector))
    module = ModuleType("lightning.pytorch.trainer.connectors.accelerator_connector")
    vars(module)["_AcceleratorConnector"] = Connector
    monkeypatch.setattr(logging.getLogger("lightning_sagemaker"), "propagate", True)
    _autoload._activate(module)
    assert "_lazy_init_strategy" in caplog.text
    assert dict(vars(Connector)) == before


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda package: (package / "connector.py").unlink(), "ModuleNotFoundError"),
        (lambda package: (package / "connector.py").write_text("half a line ("), "SyntaxError"),
        (lambda package: (package / "connector.py").write_text("import lightning_fabric.gone"), "ModuleNotFoundError"),
        (lambda package: (package / "__init__.py").write_text("1 / 0"), "ZeroDivisionError"),
        (shutil.rmtree, "ModuleNotFoundError"),
    ],
    ids=["no connector", "broken connector", "no submodule", "broken package", "no package"],
)
def test_a_damaged_lightning_fails_as_it_does_without_us(
    run: Run, fake: Path, damage: Callable[[Path], object], error: str
) -> None:
    damage(fake / "lightning_fabric")
    code = """
        import importlib.machinery, lightning_sagemaker, sys
        sys.path[:] = [path for path in sys.path if "site-packages" not in path]  # no other Lightning
        try: import lightning_fabric.connector
        except Exception as failure: print(type(failure).__name__, failure)
        """
    with_us, without_us = run(code, path=(fake,)), run(code, path=(fake,), environ=OFF)
    assert with_us.stdout.startswith(error)
    assert (with_us.stdout, with_us.stderr) == (without_us.stdout, without_us.stderr)


@pytest.mark.parametrize(
    "damage",
    [
        lambda package: shutil.rmtree(package / "patches"),
        lambda package: (package / "environment.py").unlink(),
        lambda package: (package / "environment.py").write_text("half a line ("),
        lambda package: shutil.rmtree(package / "job"),
    ],
    ids=["no patches", "no environment", "broken environment", "no job"],
)
def test_lightning_is_imported_with_a_complaint_where_half_of_us_is_missing(
    run: Run, fake: Path, copy: Path, damage: Callable[[Path], object]
) -> None:
    damage(copy / "lightning_sagemaker")
    done = run("import lightning_sagemaker, lightning_fabric.connector", report=True, path=(copy, fake))
    assert done.report == {LIGHTNING_FABRIC: False}
    assert done.stderr.startswith("lightning-sagemaker cannot serve <module 'lightning_fabric.connector'")
    assert "HINT: LIGHTNING_SAGEMAKER_AUTOLOAD=0 switches it off" in done.stderr


def test_loader_and_source_of_the_connector_stay_as_they_were(run: Run, fake: Path) -> None:
    done = run(
        """
        import importlib.machinery, inspect, json, lightning_sagemaker, lightning_fabric.connector as connector
        print(json.dumps([
            type(connector.__loader__) is importlib.machinery.SourceFileLoader,
            connector.__spec__.loader is connector.__loader__,
            inspect.getsource(connector),
            inspect.getsource(connector._Connector._choose_and_init_cluster_environment).strip(),
        ]))
        """,
        path=(fake,),
    )
    assert done.report == [True, True, CONNECTOR, "def _choose_and_init_cluster_environment(self): ..."]


def test_a_reloaded_connector_is_patched_again(run: Run, fake: Path) -> None:
    done = run(
        """
        import importlib, lightning_sagemaker, lightning_fabric.connector
        first = lightning_fabric.connector._Connector
        assert importlib.reload(lightning_fabric.connector)._Connector is not first
        """,
        report=True,
        path=(fake,),
    )
    assert done.report == {LIGHTNING_FABRIC: True}


# --- the real Lightning, in every order of imports -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "connectors"),
    [
        pytest.param("import torch, lightning", {FABRIC, TRAINER}, marks=needs_lightning),
        pytest.param("import lightning", {FABRIC, TRAINER}, marks=needs_lightning),
        pytest.param("import lightning.fabric", {FABRIC}, marks=needs_lightning),
        pytest.param(f"import {TRAINER}", {TRAINER}, marks=needs_lightning),
        pytest.param(
            "import lightning, pytorch_lightning",
            {FABRIC, TRAINER, PYTORCH_LIGHTNING},
            marks=needs_lightning,
        ),
        pytest.param(
            "import pytorch_lightning, lightning",
            {FABRIC, TRAINER, PYTORCH_LIGHTNING},
            marks=needs_lightning,
        ),
        pytest.param("import torch, pytorch_lightning", {PYTORCH_LIGHTNING}),
        pytest.param("import pytorch_lightning, lightning_fabric.connector", {PYTORCH_LIGHTNING, LIGHTNING_FABRIC}),
        pytest.param("import lightning_fabric", {LIGHTNING_FABRIC}),
        pytest.param(f"import {PYTORCH_LIGHTNING}", {PYTORCH_LIGHTNING}),
    ],
)
def test_every_order_of_imports_ends_with_patched_connectors(run: Run, code: str, connectors: set[str]) -> None:
    done = run(code, report=True)
    assert connectors <= done.report.keys()
    assert all(done.report.values())
    assert "lightning-sagemaker" not in done.stderr  # no complaint


@pytest.mark.parametrize(
    "code",
    [
        "import lightning_sagemaker, lightning_fabric",
        "import lightning_fabric, lightning_sagemaker",
        "import torch, lightning_fabric, lightning_sagemaker",
    ],
)
def test_our_import_suffices_where_torch_calls_no_entry_points(run: Run, code: str) -> None:
    assert run(code, report=True, environ=NO_ENTRY_POINTS).report == {LIGHTNING_FABRIC: True}


def test_the_off_switch_leaves_the_real_connector_untouched(run: Run) -> None:
    assert run("import torch, lightning_fabric", report=True, environ=OFF).report == {LIGHTNING_FABRIC: False}


def test_the_real_connector_keeps_loader_and_source_and_is_patched_after_a_reload(run: Run) -> None:
    done = run(
        """
        import importlib.machinery, inspect, lightning_fabric.connector as connector
        assert type(connector.__spec__.loader) is importlib.machinery.SourceFileLoader
        assert "class _Connector" in inspect.getsource(connector)
        assert "TorchElastic" in inspect.getsource(connector._Connector._choose_and_init_cluster_environment)
        importlib.reload(connector)
        """,
        report=True,
    )
    assert done.report == {LIGHTNING_FABRIC: True}


def test_importing_lightning_loads_none_of_our_rooms_that_only_a_job_enters(run: Run) -> None:
    run(
        """
        import sys, lightning.pytorch
        ours = {name for name in sys.modules if name.startswith("lightning_sagemaker")}
        assert "lightning_sagemaker.patches.environment" in ours
        late = ("lightning_sagemaker.locking", "lightning_sagemaker.redaction", "lightning_sagemaker.distributed.store")
        assert not {name for name in ours if name.startswith(late)}, ours
        """
    )


# --- lightning_sagemaker.pth, for a torch without entry points -------------------------------------------------------

OUR_MODULES = "import json, sys; print(json.dumps([name for name in sys.modules if 'lightning' in name]))"


@pytest.mark.parametrize(
    "environ",
    [{}, {"TRAINING_JOB_NAME": ""}, {"SM_HOSTS": '["algo-1"]', "SM_CURRENT_HOST": "algo-1"}],
    ids=["no variable", "an empty variable", "stray variables"],
)
def test_the_pth_file_imports_nothing_outside_a_job(run: Run, with_pth: Path, environ: dict[str, str]) -> None:
    done = run(OUR_MODULES, python=with_pth, environ=environ)
    assert done.report == []
    assert done.stderr == ""


@pytest.mark.parametrize("mark", ["TRAINING_JOB_ARN", "TRAINING_JOB_NAME", "SM_TRAINING_ENV"])
def test_the_pth_file_starts_the_hook_in_a_job(run: Run, with_pth: Path, mark: str) -> None:
    done = run(OUR_MODULES, python=with_pth, environ={mark: "something"})
    assert set(done.report) == OURS
    assert done.stderr == ""


def test_the_pth_file_heeds_the_off_switch(run: Run, with_pth: Path, fake: Path) -> None:
    done = run("import lightning_fabric.connector", report=True, python=with_pth, path=(fake,), environ=JOB | OFF)
    assert done.report == {LIGHTNING_FABRIC: False}


@pytest.mark.parametrize(("environ", "patched"), [(JOB, True), ({}, False)], ids=["in a job", "outside a job"])
def test_the_pth_file_serves_lightning_in_a_job_only(
    run: Run,
    with_pth: Path,
    environ: dict[str, str],
    patched: bool,
) -> None:
    done = run("import torch, lightning_fabric", report=True, python=with_pth, environ=NO_ENTRY_POINTS | environ)
    assert done.report == {LIGHTNING_FABRIC: patched}


@pytest.mark.parametrize("environ", [JOB, {}], ids=["in a job", "outside a job"])
def test_the_pth_file_never_prevents_the_start_of_an_interpreter(
    run: Run, tmp_path: Path, environ: dict[str, str]
) -> None:
    python = _environment(tmp_path / "bare", "")
    shutil.copy(PTH, next((tmp_path / "bare" / "lib").glob("python*")) / "site-packages")
    done = run("print('started')", python=python, environ=environ)
    assert (done.code, done.stdout) == (0, "started\n")
    assert ("No module named 'lightning_sagemaker'" in done.stderr) == bool(environ)
