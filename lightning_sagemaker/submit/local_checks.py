"""The checks of a job that need only its description."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from lightning_sagemaker.findings import Finding, fail, finding, ok, unknown, warn
from lightning_sagemaker.instances import instance
from lightning_sagemaker.job.channels import dropped_rows
from lightning_sagemaker.smddp.availability import INSTANCE_TYPES as SMDDP_TYPES
from lightning_sagemaker.smddp.availability import STRATEGIES, sharding_of
from lightning_sagemaker.submit.choices import SMDDP_VERSION, has_smddp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lightning_sagemaker.instances import Instance
    from lightning_sagemaker.submit.training_job import TrainingJob

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


def check(job: TrainingJob, told: Instance | Finding | None = None) -> list[Finding]:
    """All checks of a completed job that need only its description, and what is ``told`` of its instance type."""
    return [
        *_check_hosts(job, told or instance(job.launched.instance_type)),
        _check_strategy(job),
        _check_smddp(job),
        *_check_options(job),
    ]


def _check_hosts(job: TrainingJob, told: Instance | Finding | None) -> Iterator[Finding]:
    kind, count = job.launched.instance_type, job.launched.instance_count
    known = None if isinstance(told, Finding) else told
    processes = job.processes_per_host or (max(known.gpus, 1) if known else None)
    if isinstance(told, Finding):
        yield told
    elif known is None:
        yield unknown(
            "instance type",
            f"{kind} is not in the table of GPU instance types (November 2026). HINT: EC2 knows more, where"
            " it may be asked; on an instance without GPUs, training runs on the CPU.",
        )
    elif count > 1 and not known.efa:
        yield warn(
            "instance type",
            f"{kind} has no EFA: {count} hosts exchange gradients over TCP. HINT: fewer, larger instances cost less"
            " time; EFA begins at 8xlarge of the g families, and p4d.",
        )
    else:
        yield ok("instance type", f"{kind}: {known.gpus} GPU(s){', EFA' if known.efa else ''}.")
    if processes is None:
        yield unknown("world", f"{count} host(s), one process per GPU.")
    elif known and 0 < known.gpus < processes:  # on CPUs, as many as anybody wants
        text = f"{processes} processes on each {kind}, which has {known.gpus} GPU(s)."
        yield fail("world", text, "HINT: leave --processes-per-host out.")
    else:
        yield ok("world", f"{count} host(s) x {processes} process(es) = world size {processes * count}.")
    if job.launcher == "none" and count > 1:
        yield warn(
            "launcher",
            "no launcher: Lightning starts the processes of each host itself, with `lightning-sagemaker` installed."
            " HINT: --launcher torchrun also ends all hosts when a process fails.",
        )
    else:
        yield ok("launcher", f"{job.launcher}, started by the image's training toolkit.")


def _check_strategy(job: TrainingJob) -> Finding:
    if job.strategy is None or job.strategy in KNOWN:
        return ok("strategy", f"{job.strategy or 'the script says it'}.")
    near = " or ".join(difflib.get_close_matches(job.strategy, KNOWN, 2))
    fix = f"HINT: {near}?" if near else "HINT: nothing, if the script registers it."
    return finding("strategy", "fail" if near else "unknown", f"Lightning has no strategy {job.strategy!r}.", fix)


def _check_smddp(job: TrainingJob) -> Finding:
    strategy, problems = job.strategy, []
    sharding = sharding_of(strategy)
    if sharding is None:
        return ok("SMDDP", "not asked for.")
    kind = job.launched.instance_type
    if job.image is None and not has_smddp(str(job.torch)):
        problems.append(
            f"image {job.torch} has no SMDDP, the last with it is {SMDDP_VERSION}: training falls back to NCCL"
            f" (HINT: --torch {SMDDP_VERSION})"
        )
    if kind not in SMDDP_TYPES:
        problems.append(f"{kind} is not supported, only {' and '.join(SMDDP_TYPES)} are (HINT: --strategy ddp)")
    if job.launched.instance_count == 1:
        problems.append("it has no advantage on one instance (HINT: --strategy ddp)")
    sharded = sharding == "sharded"
    if sharded != (job.launcher == "torchrun"):
        wanted = "torchrun" if sharded else "smddprun"
        served = "all-gathers, which sharded strategies need," if sharded else "all-reduces, which it needs,"
        problems.append(f"its {served} run under {wanted}, not {job.launcher} (HINT: --launcher {wanted})")
    if problems:  # each with its own fix
        return Finding("SMDDP", "fail", f"strategy {strategy!r} will not use SMDDP: {'; '.join(problems)}.")
    return ok("SMDDP", f"strategy {strategy!r} on {kind}, image {job.torch}.")


def _check_options(job: TrainingJob) -> Iterator[Finding]:
    if job.sharded and job.launched.instance_count > 1:
        yield warn("channels", dropped_rows(job.sharded, job.launched.instance_count))
    else:
        yield ok("channels", f"{len(job.inputs)} channel(s); each host has all of their files.")
    if job.spot and job.checkpoint_uri is None:
        text = "managed spot instances without a checkpoint folder: an interruption loses the run."
        yield fail("spot", text, "HINT: --checkpoint-uri s3://bucket/prefix.")
    else:
        yield ok("spot", "continues from checkpoints." if job.spot else "on-demand instances.")
    if job.keep_alive and (job.spot or job.instance_groups):
        what = f"--keep-alive {job.keep_alive} with {'spot instances' if job.spot else 'instance groups'}"
        yield fail("warm pool", f"{what}, which SageMaker keeps in no warm pool.", "HINT: leave one of them out.")
    if bool(job.subnets) != bool(job.security_groups):
        missing = "security groups" if job.subnets else "subnets"
        yield fail("VPC", f"a VPC without {missing}. HINT: give --subnet and --security-group.")
    else:
        yield ok("VPC", f"{len(job.subnets)} subnet(s)." if job.subnets else "none: SageMaker's own network.")
