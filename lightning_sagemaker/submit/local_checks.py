"""What is wrong with a job before money is spent on it, as far as this machine can tell."""

from __future__ import annotations

import ast
import difflib
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_sagemaker.findings import Finding, finding
from lightning_sagemaker.instances import instance
from lightning_sagemaker.job.channels import dropped_rows
from lightning_sagemaker.smddp.names import STRATEGIES, sharding_of
from lightning_sagemaker.smddp.probe import INSTANCE_TYPES as SMDDP_TYPES
from lightning_sagemaker.submit.description import SMDDP_VERSION
from lightning_sagemaker.submit.source import files

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning_sagemaker.submit.description import JobDescription

_DDP = ("ddp", "ddp_spawn", "ddp_fork", "ddp_notebook")
_UNUSED = ("", "_find_unused_parameters_true", "_find_unused_parameters_false")
# Names that Lightning's registries have (2.2 to 2.6), and ours: to ask Lightning takes seconds.
KNOWN = (
    *("auto", "dp", "fsdp", "fsdp_cpu_offload", "single_device", "single_xla", "single_tpu", "xla", "xla_debug"),
    *("xla_fsdp", "deepspeed", "deepspeed_stage_1", "deepspeed_stage_1_offload", "deepspeed_stage_2"),
    *("deepspeed_stage_2_offload", "deepspeed_stage_3", "deepspeed_stage_3_offload", "deepspeed_stage_3_offload_nvme"),
    *(name + unused for name in _DDP for unused in _UNUSED),
    *STRATEGIES,
)
_LARGE = 500  # MB of a source folder: every host fetches it at the price of the whole cluster
_OUTPUT = 1500  # characters of a failed simulation that are shown


def check(job: JobDescription) -> list[Finding]:
    """All checks that need nothing but the description and the source folder."""
    checks: list[Callable[[JobDescription], Finding]] = [
        _check_script,
        _check_size,
        _check_instance,
        _check_world,
        _check_launcher,
        _check_strategy,
        _check_smddp,
        _check_channels,
        _check_spot,
        _check_vpc,
    ]
    return [one(job) for one in checks]


def _check_script(job: JobDescription) -> Finding:
    path = job.source_dir / job.script
    try:
        ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        where = f"{path}, line {line}" if line else str(path)
        return Finding("script", "fail", f"the script does not parse ({where}): {error}.", "HINT: mend it.")
    return Finding("script", "ok", f"{job.script} parses.")


def _check_size(job: JobDescription) -> Finding:
    sizes = {path: path.stat().st_size for path in files(job.source_dir) if path.is_file()}
    total = sum(sizes.values()) / 1e6
    if total <= _LARGE:
        return Finding("source folder", "ok", f"{len(sizes)} files, {total:.1f} MB.")
    largest = max(sizes, key=sizes.__getitem__)
    return Finding(
        "source folder",
        "warn",
        f"{len(sizes)} files, {total:.0f} MB, which every host fetches while all are paid for; the largest is"
        f" {largest.relative_to(job.source_dir)} with {sizes[largest] / 1e6:.0f} MB.",
        "HINT: put data into a channel (--channel NAME=s3://...), or give --source-dir a smaller folder.",
    )


def _check_instance(job: JobDescription) -> Finding:
    known = instance(job.instance_type)
    if known is None:
        return Finding(
            "instance type",
            "warn",
            f"{job.instance_type} is not in the table of GPU instance types (November 2026).",
            "HINT: nothing, if it has GPUs; on one without, training runs on the CPU.",
        )
    if job.instance_count > 1 and not known.efa:
        return Finding(
            "instance type",
            "warn",
            f"{job.instance_type} has no EFA: {job.instance_count} hosts exchange gradients over TCP.",
            "HINT: fewer, larger instances cost less time; EFA begins at 8xlarge of the g families, and p4d.",
        )
    return Finding("instance type", "ok", f"{job.instance_type}: {known.gpus} GPU(s){', EFA' if known.efa else ''}.")


def _check_world(job: JobDescription) -> Finding:
    known = instance(job.instance_type)
    processes = job.processes_per_host or (known.gpus if known else None)
    if processes is None:
        return Finding("world", "ok", f"{job.instance_count} host(s), one process per GPU.")
    if known and processes > max(known.gpus, 1):
        return Finding(
            "world",
            "fail",
            f"{processes} processes on each {job.instance_type}, which has {known.gpus} GPU(s).",
            "HINT: leave --processes-per-host out.",
        )
    world = processes * job.instance_count
    return Finding("world", "ok", f"{job.instance_count} host(s) x {processes} process(es) = world size {world}.")


def _check_launcher(job: JobDescription) -> Finding:
    if job.launcher == "none" and job.instance_count > 1:
        return Finding(
            "launcher",
            "warn",
            "no launcher: Lightning starts the processes of each host itself, with `lightning-sagemaker` installed.",
            "HINT: --launcher torchrun also ends all hosts when a process fails.",
        )
    if job.launcher == "smddprun" and job.sdk == "v3":
        return Finding(
            "launcher",
            "warn",
            "SDK v3 has no launcher for SMDDP: the image's own toolkit starts it, as in SDK v2's jobs (seen on test"
            " hosts, not on AWS yet).",
            "HINT: --sdk v2 is the documented way.",
        )
    return Finding("launcher", "ok", f"{job.launcher}, SDK {job.sdk}.")


def _check_channels(job: JobDescription) -> Finding:
    if job.sharded and job.instance_count > 1:
        return finding("channels", "warn", dropped_rows(job.sharded, job.instance_count))
    return Finding("channels", "ok", f"{len(job.channels)} channel(s); each host has all of their files.")


def _check_strategy(job: JobDescription) -> Finding:
    if job.strategy is None or job.strategy in KNOWN:
        return Finding("strategy", "ok", f"{job.strategy or 'the script says it'}.")
    near = difflib.get_close_matches(job.strategy, KNOWN, 2)
    return Finding(
        "strategy",
        "fail" if near else "unknown",
        f"Lightning has no strategy {job.strategy!r}.",
        f"HINT: {' or '.join(near)}?" if near else "HINT: nothing, if the script registers it.",
    )


def _check_smddp(job: JobDescription) -> Finding:
    strategy, problems = job.strategy, []
    sharding = sharding_of(strategy)
    if sharding is None:
        return Finding("SMDDP", "ok", "not asked for.")
    if job.image is None and _version(job.torch_version) > _version(SMDDP_VERSION):
        problems.append(
            f"image {job.torch_version} has no SMDDP, the last with it is {SMDDP_VERSION}: training falls back to NCCL"
            f" (HINT: --torch {SMDDP_VERSION})"
        )
    if job.instance_type not in SMDDP_TYPES:
        problems.append(
            f"{job.instance_type} is not supported, only {' and '.join(SMDDP_TYPES)} are (HINT: --strategy ddp)"
        )
    if job.instance_count == 1:
        problems.append("it brings nothing on one instance (HINT: --strategy ddp)")
    sharded = sharding == "sharded"
    if sharded != (job.launcher == "torchrun"):
        wanted = "torchrun" if sharded else "smddprun"
        served = "all-gathers, which sharded strategies need," if sharded else "all-reduces, which it needs,"
        problems.append(f"its {served} run under {wanted}, not {job.launcher} (HINT: --launcher {wanted})")
    if problems:
        return Finding("SMDDP", "fail", f"strategy {strategy!r} will not use SMDDP: {'; '.join(problems)}.")
    return Finding("SMDDP", "ok", f"strategy {strategy!r} on {job.instance_type}, image {job.torch_version}.")


def _check_spot(job: JobDescription) -> Finding:
    if job.spot and job.checkpoint_s3_uri is None:
        return Finding(
            "spot",
            "fail",
            "managed spot instances without a checkpoint folder: an interruption loses the run.",
            "HINT: --checkpoint-uri s3://bucket/prefix.",
        )
    return Finding("spot", "ok", "continues from checkpoints." if job.spot else "on-demand instances.")


def _check_vpc(job: JobDescription) -> Finding:
    if bool(job.subnets) != bool(job.security_group_ids):
        missing = "security groups" if job.subnets else "subnets"
        return Finding("VPC", "fail", f"a VPC without {missing}.", "HINT: give --subnet and --security-group.")
    return Finding("VPC", "ok", f"{len(job.subnets)} subnet(s)." if job.subnets else "none: SageMaker's own network.")


def simulate(job: JobDescription, timeout: float = 600.0) -> Finding:
    """Run the script for one batch as two hosts of one process, on this machine's CPU.

    Args:
        job: The job.
        timeout: Seconds after which it counts as hanging.
    """
    arguments = [text for pair in job.hyperparameters.items() for text in (_option(pair[0]), pair[1])]
    distribution = {"torchrun": "torch_distributed", "smddprun": "smdistributed", "mpirun": "mpi", "none": "none"}
    sdk = "v2" if job.launcher == "smddprun" else job.sdk  # the toolkit starts it in both
    hosts = min(job.instance_count, 2)
    variables = {"PL_TRAINER_FAST_DEV_RUN": "1", "PL_TRAINER_ACCELERATOR": "cpu", **job.environment}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "source")
        source.symlink_to(job.source_dir.resolve())
        command = [
            *(sys.executable, "-m", "lightning_sagemaker.cli", "simulate", "--hosts", str(hosts), "--sdk", sdk),
            *("--distribution", distribution[job.launcher], "--instance-type", job.instance_type),
            *(part for name, value in variables.items() for part in ("--env", f"{name}={value}")),
            *(str(source / job.script), "--", *arguments),
        ]
        with subprocess.Popen(  # noqa: S603 - the command is ours
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as process:
            try:
                printed = process.communicate(timeout=timeout)[0]
            except subprocess.TimeoutExpired:
                process.terminate()  # which ends the simulated hosts too; a kill would leave them behind
                process.communicate()
                return Finding(
                    "simulation",
                    "fail",
                    f"the script did not end one batch within {timeout:g} s.",
                    "HINT: run `lightning-sagemaker simulate` on it, to see where it stands.",
                )
    if process.returncode != 0:
        return Finding(
            "simulation",
            "fail",
            f"the script failed on {hosts} simulated host(s), exit code {process.returncode}:\n{printed[-_OUTPUT:]}",
            "HINT: run `lightning-sagemaker simulate` on it.",
        )
    return Finding("simulation", "ok", f"one batch on {hosts} simulated host(s).")


def _option(name: str) -> str:
    return f"-{name}" if len(name) == 1 else f"--{name}"


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:3])
