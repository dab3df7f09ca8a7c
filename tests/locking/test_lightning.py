"""What the locks do in Lightning's hooks."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from lightning_sagemaker.environment import SageMakerEnvironment
from lightning_sagemaker.locking import SerialSetup, lock
from lightning_sagemaker.patches.preparation import patch_data_connector, tell_failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from .conftest import Crew

HERE = Path(__file__).parent
JOB = {"TRAINING_JOB_NAME": "digits", "SM_RESOURCE_CONFIG": '{"current_host": "algo-1", "hosts": ["algo-1"]}'}
TRAIN = ("--processes-per-host", "2", "--distribution", "torch_distributed", str(HERE / "train.py"), "--")


def simulate(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, dict[str, str]]:
    """Run a simulated job; return its exit code and what its processes left behind."""
    for name in ("LIGHTNING_SAGEMAKER_LOCK_DIR", "LIGHTNING_SAGEMAKER_RUN_ID"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("TMPDIR", str(folder.parent))  # a failed job's files are kept
    pytest.importorskip("lightning")
    folder.mkdir()
    command = [sys.executable, "-m", "lightning_sagemaker.cli", "simulate", *arguments, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    left = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    assert left, done.stdout + done.stderr
    return done.returncode, left


def test_when_prepare_data_fails_all_ranks_raise_its_error_and_none_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, left = simulate(tmp_path / "seen", monkeypatch, *TRAIN, "fails")
    assert code != 0
    assert sorted(left) == ["error-0", "error-1", "prepared-0"]
    assert left["error-0"] == "OSError: [Errno 28] No space left on device: '/opt/ml/data'"
    assert left["error-1"].startswith("RuntimeError: prepare_data, call 1, failed in another process (rank 0, ")
    assert "OSError: [Errno 28] No space left on device: '/opt/ml/data'\nHINT: " in left["error-1"]


def test_a_training_with_both_guards_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, left = simulate(tmp_path / "seen", monkeypatch, *TRAIN, "works")
    assert not [text for name, text in left.items() if name.startswith("error")], left
    assert code == 0
    assert sorted(left) == ["model-prepared-0", "prepared-0", "setup-0", "setup-1", "trained-0", "trained-1"]


def test_ranks_that_lightning_starts_share_locks_with_those_of_their_host_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, left = simulate(tmp_path / "seen", monkeypatch, "--hosts", "2", str(HERE / "share.py"), "--")
    assert code == 0
    assert len(left) == 3 * 2 * (2 + 2), sorted(left)
    for key in ("ddp_spawn", "ddp_fork", "trainer"):
        for host, ranks in (("algo-1", "01"), ("algo-2", "23")):
            worker = left.pop(f"{key} {host} work").splitlines()
            assert len(worker) == 1
            process = json.loads(left[f"{key} {host} {worker[0]}"])[0]
            told = [json.loads(left.pop(f"{key} {host} {who}")) for who in (*ranks, "script")]
            assert [value for _, value in told] == [process] * 3
            assert len({pid for pid, _ in told}) == 3
    assert not left


def test_setup_runs_in_one_process_at_a_time(crew: Callable[..., Crew]) -> None:
    seen = crew(
        4,
        """
        from lightning_sagemaker.locking import SerialSetup

        class Base(SerialSetup):
            def setup(self, stage):
                with witness():
                    note(stage)
                    time.sleep(0.05)

        class Data(Base):
            def setup(self, stage):
                super().setup(stage)

        def act(index):
            Data().setup("fit")
        """,
    )
    assert seen.notes == ["fit"] * 4
    assert not [record["message"] for record in seen if "error" in record]


def test_setup_waits_as_long_as_the_class_says() -> None:
    class Data(SerialSetup):
        setup_timeout = 0.1

        def setup(self, stage: str) -> None:
            assert stage
            inside.set()
            time.sleep(0.6)

    inside = threading.Event()
    first = threading.Thread(target=lambda: Data().setup("fit"))
    first.start()
    assert inside.wait(10)
    with pytest.raises(TimeoutError, match=r"node_lock\('setup of .*Data'\) waited 0.1 s for pid"):
        Data().setup("fit")
    first.join(10)
    Data().setup("fit")


def test_setup_of_a_data_module_that_is_there_already_is_guarded_too() -> None:
    class Ready:
        def setup(self, stage: str) -> None:
            held.append((stage, len(lock._held)))

    class Data(SerialSetup, Ready):
        pass

    held: list[tuple[str, int]] = []
    Data().setup("fit")
    assert held == [("fit", 1)]


def test_setup_that_fails_can_be_called_again() -> None:
    class Data(SerialSetup):
        def setup(self, stage: str) -> None:
            if stage == "fit":
                raise ValueError

    data = Data()
    with pytest.raises(ValueError):  # noqa: PT011 - the user's own
        data.setup("fit")
    data.setup("test")
    assert vars(data) == {}


def test_a_module_s_setup_is_still_seen_as_overridden_and_others_untouched() -> None:
    pl = pytest.importorskip("lightning.pytorch")
    helpers = pytest.importorskip("lightning.pytorch.utilities.model_helpers")

    class With(SerialSetup, pl.LightningDataModule):  # type: ignore[misc,name-defined]
        def setup(self, stage: str) -> None:
            """Mine."""

    class Without(SerialSetup, pl.LightningDataModule):  # type: ignore[misc,name-defined]
        pass

    assert With.setup.__doc__ == "Mine."
    assert helpers.is_overridden("setup", With())
    assert not helpers.is_overridden("setup", Without())
    With().setup("fit")


class Connector:
    """Lightning's connector, as far as the guard sees it: one process that lets itself in."""

    def __init__(self, environment: object, *owners: Any) -> None:
        self.trainer = SimpleNamespace(
            strategy=SimpleNamespace(cluster_environment=environment),
            datamodule=owners[0] if owners else None,
            lightning_module=owners[1] if len(owners) > 1 else None,
        )

    def prepare_data(self) -> None:
        for owner in (self.trainer.datamodule, self.trainer.lightning_module):
            if owner is not None:
                try:
                    owner.prepare_data()
                except BaseException as error:
                    tell_failure(error)  # as Lightning's barrier does when it is left
                    raise


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Connector]]:
    """A connector class of its own, guarded, in a process group of one."""
    dist = pytest.importorskip("torch.distributed")

    class Guarded(Connector):
        def prepare_data(self) -> None:
            super().prepare_data()

    for name, value in JOB.items():
        monkeypatch.setenv(name, value)
    patch_data_connector(cast("ModuleType", SimpleNamespace(_DataConnector=Guarded, _InfiniteBarrier=object)))
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield Guarded
    dist.destroy_process_group()


@pytest.fixture
def environment() -> SageMakerEnvironment:
    """Something that is our environment."""
    return SageMakerEnvironment.__new__(SageMakerEnvironment)


class Owner:
    """A module with the hook."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.calls = 0

    def prepare_data(self) -> None:
        """Get it, perhaps by methods of its own in other processes."""
        self.calls += 1
        pickle.dumps(self.prepare_data)
        copy.deepcopy(self)
        if self.error:
            raise self.error


def test_the_guard_leaves_no_trace_on_the_modules(guarded: type[Connector], environment: SageMakerEnvironment) -> None:
    owners = Owner(), Owner()
    before = [dict(vars(owner)) for owner in owners]
    guarded(environment, *owners).prepare_data()
    assert [dict(vars(owner)) | {"calls": 0} for owner in owners] == before
    assert [owner.calls for owner in owners] == [1, 1]


def test_the_guard_keeps_a_hook_that_was_set_on_the_instance(
    guarded: type[Connector], environment: SageMakerEnvironment
) -> None:
    owner, calls = Owner(), []
    hook = owner.prepare_data = lambda: calls.append(1)  # type: ignore[method-assign]
    guarded(environment, owner).prepare_data()
    assert calls == [1]
    assert owner.prepare_data is hook


def test_the_process_that_failed_raises_its_own_error(
    guarded: type[Connector], environment: SageMakerEnvironment
) -> None:
    with pytest.raises(ZeroDivisionError, match=r"mine"):
        guarded(environment, Owner(ZeroDivisionError("mine"))).prepare_data()


def test_under_another_environment_the_guard_does_nothing(guarded: type[Connector], run_of_its_own: Path) -> None:
    guarded(None, Owner()).prepare_data()
    assert list(run_of_its_own.iterdir()) == []


def test_where_locks_have_no_place_prepare_data_runs_as_without_us(
    guarded: type[Connector],
    environment: SageMakerEnvironment,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("LIGHTNING_SAGEMAKER_LOCK_DIR", "/nowhere/at/all")
    owner = Owner()
    guarded(environment, owner).prepare_data()
    assert owner.calls == 1
    assert "runs without the guard" in caplog.text
    assert "/nowhere/at/all" in caplog.text


def test_a_failure_in_another_process_explains_what_it_brought_down(crew: Callable[..., Crew]) -> None:
    seen = crew(
        2,
        f"""
        sys.path.insert(0, {os.fspath(Path(__file__).parent)!r})
        from types import SimpleNamespace
        from torch import distributed
        from lightning_sagemaker.environment import SageMakerEnvironment
        from lightning_sagemaker.patches.preparation import patch_data_connector, tell_failure

        class Data:
            def prepare_data(self):
                try:
                    raise ValueError("the cause")
                finally:
                    (folder / "failing").touch()

        class Connector:
            def __init__(self, index):
                environment = SageMakerEnvironment.__new__(SageMakerEnvironment)
                strategy = SimpleNamespace(cluster_environment=environment)
                self.trainer = SimpleNamespace(strategy=strategy, datamodule=Data(), lightning_module=None)
                self.index = index

            def prepare_data(self):
                if self.index == 0:
                    try:
                        self.trainer.datamodule.prepare_data()
                    except ValueError as error:
                        tell_failure(error)
                        raise
                else:
                    wait_for((folder / "0.json").exists)
                    raise RuntimeError("Connection closed by peer")

        patch_data_connector(SimpleNamespace(_DataConnector=Connector, _InfiniteBarrier=object))

        def act(index):
            distributed.init_process_group("gloo", f"file://{{folder}}/group", rank=index, world_size=2)
            Connector(index).prepare_data()
        """,
        env=JOB,
    )
    assert (seen[0]["error"], seen[0]["message"]) == ("ValueError", "the cause")
    assert "ValueError: the cause\nHINT: " in seen[1]["message"]
    assert "Connection closed by peer" in seen[1]["traceback"]
