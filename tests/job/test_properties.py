"""Whatever the environment: a consistent job, or none, or an error that says what to do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_sagemaker.job import SageMakerJob

from .launch_modes import MODES, Process, started_by_lightning

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

repeatable = settings(derandomize=True, max_examples=250, deadline=None, database=None)


NAMES = [
    *("TRAINING_JOB_ARN", "TRAINING_JOB_NAME", "SM_TRAINING_ENV", "SAGEMAKER_JOB_NAME", "SM_HOSTS", "CURRENT_HOST"),
    *("SM_RESOURCE_CONFIG", "SM_DISTRIBUTION_INSTANCE_GROUPS", "SM_HOST_COUNT", "SM_CURRENT_HOST_RANK"),
    *("SM_MASTER_ADDR", "SM_MASTER_PORT", "MASTER_ADDR", "MASTER_PORT", "SMDATAPARALLEL_SERVER_ADDR"),
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "NODE_RANK"),
    *("TORCHELASTIC_RUN_ID", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
    *("OMPI_COMM_WORLD_LOCAL_SIZE", "SM_NUM_GPUS", "SM_NUM_NEURONS"),
]
HOSTS = ["algo-1", "algo-2", "algo-10", "algo-3"]
GARBAGE = ["", " ", "-1", "1.5", "1_000", "٣", "1e3", "9" * 30, "None", "null", "[]", '["', "{}", "\udcff", "\0", "#"]

values = st.one_of(
    st.integers(0, 17).map(str),
    st.sampled_from(["1", "2", "4", "8", "16", "65535", "65536", "100000000", "none", '["gpu"]', "127.0.0.1", *HOSTS]),
    st.sampled_from(GARBAGE),
    st.text(max_size=12),
)
junk = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(HOSTS), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)
hosts = st.one_of(st.lists(st.sampled_from(HOSTS), unique=True, min_size=1), st.lists(st.sampled_from(HOSTS)), junk)
group = st.one_of(
    st.fixed_dictionaries(
        {"instance_group_name": st.one_of(st.sampled_from(["gpu", "cpu"]), junk), "hosts": hosts},
        optional={"instance_type": junk},
    ),
    junk,
)
config = st.fixed_dictionaries(
    {"current_host": st.one_of(st.sampled_from(HOSTS), junk), "hosts": hosts},
    optional={
        "instance_groups": st.one_of(st.lists(group, max_size=3), junk),
        "current_group_name": st.one_of(st.just("gpu"), junk),
        "current_instance_type": st.one_of(st.just("ml.p4d.24xlarge"), junk),
        "network_interface_name": st.one_of(st.just("eth0"), junk),
    },
)
contents = st.one_of(st.none(), config, config.map(json.dumps), junk.map(json.dumps), st.text(), st.binary())
processes = st.sampled_from([process for mode in MODES.values() for process in mode.processes()])
valid = processes.map(lambda process: (process.environ, process.config))


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Mapping[str, str], Any], SageMakerJob | None]:
    """Detection; errors of ours give ``None``, any other one fails."""
    folder = tmp_path_factory.mktemp("config")
    file = folder / "resourceconfig.json"

    def job_or_none(environ: Mapping[str, str], content: Any) -> SageMakerJob | None:
        file.unlink(missing_ok=True)
        if isinstance(content, bytes):
            file.write_bytes(content)
        elif content is not None:
            text = content if isinstance(content, str) else json.dumps(content)
            file.write_text(text, encoding="utf-8", errors="surrogatepass")
        refusal = job = None
        try:
            job = SageMakerJob.detect(environ, folder)
        except (ValueError, FileNotFoundError) as error:
            refusal = error
        assert refusal is None or _helps(refusal)
        assert job is None or _is_consistent(job)
        return job

    return job_or_none


def _helps(refusal: Exception) -> bool:
    assert type(refusal) in {ValueError, FileNotFoundError}, "subclasses are of others"
    assert "HINT: " in str(refusal)
    assert len(str(refusal)) <= 1024
    return True


def _is_consistent(job: SageMakerJob) -> bool:
    assert job.launcher in {"torchrun", "mpirun", "custom", "none"}
    assert job.sdk in {"v2", "v3", None}
    assert job.current_host in job.world_hosts
    assert len(set(job.hosts)) == len(job.hosts)
    assert len(set(job.world_hosts)) == len(job.world_hosts) == job.num_nodes
    assert {*job.world_hosts} <= {*job.hosts}
    assert 0 <= job.node_rank < job.num_nodes
    assert job.main_address
    assert 1 <= job.main_port <= 65535
    assert job.local_rank >= 0
    assert job.local_world_size is None or 1 <= job.local_world_size <= 1024
    assert len(repr(job)) < 2000
    assert hash(job) == hash(job)
    if job.launcher == "none":
        assert job.world_hosts[job.node_rank] == job.current_host
    else:
        assert job.rank is not None
    if job.rank is None:
        assert job.world_size is None
        return True
    assert job.world_size is not None
    assert job.local_world_size is not None
    assert 0 <= job.rank < job.world_size == job.num_nodes * job.local_world_size
    assert divmod(job.rank, job.local_world_size) == (job.node_rank, job.local_rank)
    return True


@repeatable
@given(environ=st.dictionaries(st.sampled_from(NAMES), values, max_size=12), content=contents)
def test_any_training_job(environ: dict[str, str], content: Any, outcome: Callable[..., SageMakerJob | None]) -> None:
    outcome({"TRAINING_JOB_NAME": "digits", **environ}, content)


@repeatable
@given(process=valid, changes=st.dictionaries(st.sampled_from(NAMES), values, min_size=1, max_size=3))
def test_a_launch_mode_with_variables_changed(
    process: tuple[dict[str, str], Any], changes: dict[str, str], outcome: Callable[..., SageMakerJob | None]
) -> None:
    environ, content = process
    outcome({**environ, **changes}, content)


@repeatable
@given(process=valid, lost=st.sets(st.sampled_from(NAMES), min_size=1, max_size=3), file=st.booleans())
def test_a_launch_mode_with_variables_or_file_lost(
    process: tuple[dict[str, str], Any], lost: set[str], file: bool, outcome: Callable[..., SageMakerJob | None]
) -> None:
    environ, content = process
    outcome({name: value for name, value in environ.items() if name not in lost}, content if file else None)


@repeatable
@given(process=valid, data=st.data())
def test_a_launch_mode_with_values_cut(
    process: tuple[dict[str, str], Any], data: st.DataObject, outcome: Callable[..., SageMakerJob | None]
) -> None:
    environ, content = process
    name = data.draw(st.sampled_from(sorted(environ)))
    environ[name] = environ[name][: data.draw(st.integers(0, len(environ[name])))]
    text = json.dumps(content)
    outcome(environ, data.draw(st.one_of(st.none(), st.just(text), st.integers(0, len(text)).map(lambda n: text[:n]))))


@repeatable
@given(process=valid, key=st.sampled_from(["current_host", "hosts", "instance_groups", "other"]), value=junk | hosts)
def test_a_launch_mode_with_the_file_changed(
    process: tuple[dict[str, str], Any], key: str, value: Any, outcome: Callable[..., SageMakerJob | None]
) -> None:
    environ, content = process
    outcome(environ, {**content, key: value})


@repeatable
@given(one=processes, other=processes)
def test_a_launch_mode_inside_another(
    one: Process, other: Process, outcome: Callable[..., SageMakerJob | None]
) -> None:
    outcome({**one.environ, **other.environ}, one.config)


@repeatable
@given(
    process=processes.filter(lambda process: process.world.launcher == "none"),
    devices=st.integers(1, 16),
    data=st.data(),
)
def test_what_lightnings_launcher_adds_with_one_variable_changed(
    process: Process, devices: int, data: st.DataObject, outcome: Callable[..., SageMakerJob | None]
) -> None:
    local_rank = data.draw(st.integers(0, devices - 1))
    environ = started_by_lightning(process.environ, process.expected, devices, local_rank)
    assert outcome(environ, process.config)
    environ[data.draw(st.sampled_from(["MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE"]))] = (
        data.draw(values)
    )
    outcome(environ, process.config)


@repeatable
@given(
    process=processes,
    name=st.text(min_size=1, max_size=8).map("SM_HP_{}".format) | st.sampled_from(["SM_HPS", "SM_USER_ARGS", "HOME"]),
    text=st.text(),
)
def test_variables_of_the_users_change_nothing(
    process: Process, name: str, text: str, outcome: Callable[..., SageMakerJob | None]
) -> None:
    assert outcome({**process.environ, name: text}, process.config) == process.expected
