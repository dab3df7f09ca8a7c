"""Names, classes and arguments of the strategies, in Trainer and Fabric of both distributions."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import logging
import pickle
import subprocess
import sys
import types
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
import torch

from lightning_sagemaker.patches.strategies import register_strategies
from lightning_sagemaker.smddp.strategies import class_by_name, strategy_class

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGES: tuple[Any, ...] = tuple(
    name
    for name in ("lightning.pytorch", "pytorch_lightning", "lightning.fabric", "lightning_fabric")
    if importlib.util.find_spec(name.split(".")[0])
)
TRAINERS = tuple(name for name in PACKAGES if "fabric" not in name)
NAMES = ("smddp", "smddp_find_unused_parameters_true", "smddp_find_unused_parameters_false", "smddp_fsdp")

every_package = pytest.mark.parametrize("package", PACKAGES)
pytestmark = pytest.mark.usefixtures("library")  # not installed, and what was found of it is forgotten


def registry(package: str) -> Any:
    strategies = importlib.import_module(f"{package}.strategies")
    return strategies.STRATEGY_REGISTRY if "fabric" in package else strategies.StrategyRegistry


def owner(package: str, **arguments: Any) -> Any:
    module = importlib.import_module(package)
    if "fabric" in package:
        return module.Fabric(**arguments)
    return module.Trainer(logger=False, enable_checkpointing=False, **arguments)


@every_package
@pytest.mark.parametrize("sharding", ["replicated", "sharded"])
def test_classes_and_their_objects_are_pickled_and_copied(package: str, sharding: Any) -> None:
    """As ``start_method="spawn"`` needs it; the eight classes have two names between them."""
    made = strategy_class(package, sharding)()
    for again in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
        assert type(again) is type(made)
    assert pickle.loads(pickle.dumps(type(made))) is type(made)


@every_package
def test_every_name_is_registered(package: str) -> None:
    assert set(NAMES) <= set(registry(package).available_strategies())


@every_package
@pytest.mark.parametrize("name", NAMES[:3])
def test_a_name_makes_a_ddp_strategy_of_the_same_distribution(package: str, name: str) -> None:
    strategy = owner(package, accelerator="cpu", devices=1, strategy=name).strategy
    assert type(strategy).__name__ == "SMDDPStrategy"
    assert isinstance(strategy, importlib.import_module(f"{package}.strategies").DDPStrategy)
    expected = {} if name == "smddp" else {"find_unused_parameters": name.endswith("true")}
    assert strategy._ddp_kwargs == expected


@every_package
@pytest.mark.parametrize("sharding", ["replicated", "sharded"])
def test_every_option_has_lightnings_own_default(package: Any, sharding: Any) -> None:
    ours = strategy_class(package, sharding)
    stock: Any = next(base for base in ours.__mro__ if base.__module__.startswith(package))
    found, expected = vars(ours()), vars(stock())
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == value or type(found[name]) is type(value) is not dict, name
    for name in ("_ddp_kwargs", "_fsdp_kwargs", "kwargs"):
        assert found.get(name) == expected.get(name)


@every_package
@pytest.mark.parametrize("sharding", ["replicated", "sharded"])
def test_lightnings_own_default_of_the_backend_can_be_given(package: Any, sharding: Any) -> None:
    assert strategy_class(package, sharding)(process_group_backend=None)._process_group_backend is None


@every_package
def test_arguments_of_the_ddp_strategy_pass_through(package: Any) -> None:
    options: dict[str, Any] = {"static_graph": True, "gradient_as_bucket_view": True, "find_unused_parameters": True}
    strategy = strategy_class(package, "replicated")(timeout=timedelta(seconds=7), **options)
    assert strategy._timeout == timedelta(seconds=7)
    assert strategy._ddp_kwargs == options


@pytest.mark.parametrize("package", TRAINERS)
def test_communication_hooks_pass_through(package: Any) -> None:
    hook = mock.Mock()
    assert strategy_class(package, "replicated")(ddp_comm_hook=hook)._ddp_comm_hook is hook


@every_package
@pytest.mark.parametrize("sharding", ["replicated", "sharded"])
def test_a_backend_cannot_be_given(package: Any, sharding: Any) -> None:
    with pytest.raises(TypeError, match=r"process_group_backend='gloo'.*HINT: "):
        strategy_class(package, sharding)(process_group_backend="gloo")


@every_package
def test_without_smddp_the_backend_is_lightnings_choice_for_the_device(package: str) -> None:
    assert owner(package, accelerator="cpu", devices=1, strategy="smddp").strategy.process_group_backend == "gloo"


@every_package
def test_sharding_on_the_cpu_is_refused(package: str) -> None:
    with pytest.raises(ValueError, match="GPU"):
        owner(package, accelerator="cpu", devices=1, strategy="smddp_fsdp")


@pytest.fixture
def four_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    fabrics = [
        name.replace("pytorch_lightning", "lightning_fabric").replace(".pytorch", ".fabric") for name in PACKAGES
    ]
    # The Trainer's accelerator takes the function from Fabric's, so both are imported before either is patched.
    modules = [importlib.import_module(f"{name}.accelerators.cuda") for name in (*fabrics, *PACKAGES)]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    for module in modules:
        monkeypatch.setattr(module, "num_cuda_devices", lambda: 4, raising="fabric" in module.__name__)


@every_package
@pytest.mark.usefixtures("four_gpus")
def test_on_gpus_the_sharded_name_makes_an_fsdp_strategy_over_nccl(package: str) -> None:
    with mock.patch("torch.cuda.get_device_capability", return_value=(8, 0)):
        strategy = owner(package, accelerator="cuda", devices=1, strategy="smddp_fsdp").strategy
    assert type(strategy).__name__ == "SMDDPFSDPStrategy"
    assert isinstance(strategy, importlib.import_module(f"{package}.strategies").FSDPStrategy)
    assert strategy.process_group_backend == "nccl"


@every_package
@pytest.mark.parametrize("sharding", ["replicated", "sharded"])
def test_the_process_group_is_made_without_a_device_id(
    package: Any, sharding: Any, library: Callable[[str], None], job: Callable[..., None]
) -> None:
    library("")
    job("torchrun")
    strategy = strategy_class(package, sharding)(timeout=timedelta(seconds=9))
    assert strategy.process_group_backend == "smddp"
    strategy.accelerator, strategy.parallel_devices = mock.Mock(), [torch.device("cuda", 0)]
    strategy.cluster_environment = mock.Mock(main_address="algo-1", main_port=7777)
    strategy.cluster_environment.configure_mock(
        **{"global_rank.return_value": 1, "world_size.return_value": 2, "local_rank.return_value": 0}
    )
    made = mock.Mock(side_effect=RuntimeError("far enough"))
    with (
        mock.patch("torch.distributed.init_process_group", made),
        mock.patch.dict("os.environ"),
        pytest.raises(RuntimeError, match="far enough"),
    ):
        strategy.setup_environment()
    made.assert_called_once_with("smddp", rank=1, world_size=2, timeout=timedelta(seconds=9))


@every_package
def test_registering_the_name_again_still_works_for_others(package: str) -> None:
    others = mock.Mock()
    names = registry(package)
    kept = dict(names)
    try:
        names.register(name="smddp", strategy=others, process_group_backend="smddp")
        names.get("smddp")
        others.assert_called_once_with(process_group_backend="smddp")
        with pytest.raises(ValueError, match="already present"):
            names.register("smddp", mock.Mock())  # now it is theirs, and Lightning's own rule holds
    finally:
        names.clear()
        names.update(kept)


@every_package
def test_a_name_that_others_have_registered_first_stays_theirs(package: str) -> None:
    names = type(registry(package))()
    theirs = mock.Mock()
    names.register("smddp", theirs, process_group_backend="smddp")
    register_strategies(
        types.SimpleNamespace(__name__=f"{package}.strategies", STRATEGY_REGISTRY=names, StrategyRegistry=names)
    )
    names.get("smddp")
    theirs.assert_called_once_with(process_group_backend="smddp")
    assert "smddp_fsdp" in names  # only ours


@pytest.mark.parametrize("package", TRAINERS)
@pytest.mark.parametrize("switched_on", [True, False])
def test_sync_batchnorm_that_smddp_would_refuse_is_said_beforehand(
    package: str,
    library: Callable[[str], None],
    job: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    *,
    switched_on: bool,
) -> None:
    library("")
    job("mpirun")
    monkeypatch.setattr(logging.getLogger("lightning_sagemaker"), "propagate", True)
    if switched_on:
        monkeypatch.setenv("SMDATAPARALLEL_OPTIMIZE_SDP", "true")
    owner(package, accelerator="cpu", strategy="smddp", sync_batchnorm=True)
    assert any("_allgather_base" in line and "HINT: " in line for line in caplog.messages) is not switched_on


@pytest.mark.parametrize("package", TRAINERS)
def test_the_name_can_come_from_the_environment(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_TRAINER_STRATEGY", "smddp")
    assert type(owner(package, accelerator="cpu", devices=1).strategy).__name__ == "SMDDPStrategy"


@pytest.mark.parametrize("package", TRAINERS)
def test_lightning_cli_accepts_the_name(package: str) -> None:
    cli = importlib.import_module(f"{package}.cli")
    demo = importlib.import_module(f"{package}.demos.boring_classes")
    arguments = [
        "--trainer.strategy=smddp",
        "--trainer.accelerator=cpu",
        "--trainer.devices=1",
        "--trainer.logger=false",
    ]
    made = cli.LightningCLI(demo.BoringModel, run=False, args=arguments, save_config_callback=None)
    assert type(made.trainer.strategy).__name__ == "SMDDPStrategy"


@pytest.mark.parametrize("package", [name for name in PACKAGES if "fabric" in name])
def test_fabric_run_offers_the_names(package: str) -> None:
    code = f"import {package}.cli as cli; print(cli._get_supported_strategies())"
    offered = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert all(f"'{name}'" in offered for name in NAMES)


def test_the_public_names_are_the_classes_of_the_imported_distribution() -> None:
    package = importlib.import_module("lightning_sagemaker")
    assert package.SMDDPStrategy is strategy_class(TRAINERS[0], "replicated")
    assert package.SMDDPFSDPStrategy is strategy_class(TRAINERS[0], "sharded")


def test_the_other_distribution_can_be_asked_for() -> None:
    assert class_by_name("SMDDPStrategy", "pytorch_lightning") is strategy_class("pytorch_lightning", "replicated")


@pytest.mark.parametrize("package", TRAINERS)
def test_a_laptop_trains_with_the_same_script(package: str) -> None:
    demo = importlib.import_module(f"{package}.demos.boring_classes")
    options = {"accelerator": "cpu", "devices": 1, "fast_dev_run": 2, "enable_progress_bar": False}
    with mock.patch.dict("os.environ"):  # Lightning's own launcher writes there
        try:
            owner(package, strategy="smddp", **options).fit(demo.BoringModel())
            assert torch.distributed.get_backend() == "gloo"
        finally:
            torch.distributed.destroy_process_group()
