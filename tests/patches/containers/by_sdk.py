"""Runs inside an environment of SDK v2 or v3: has its code make containers, and writes down what is in them.

Docker is a script that answers `compose version` and, on `up`, keeps the folder in which the SDK has put its compose
file. Everything else is the SDK's own.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import sys
import types
from pathlib import Path
from typing import Any

import boto3
import yaml  # type: ignore[import-untyped]

DOCKER = """\
#!/bin/sh
case "$*" in
  *version*) echo "Docker Compose version v2.29.0" ;;
  *" up "*) shift 2; cp -r "$(dirname "$1")" "$KEPT" ;;
esac
"""


class Containers:
    """What was made: for each situation a list of containers, each with its variables and its files in ``/opt/ml``."""

    def __init__(self, folder: Path) -> None:
        self.made: dict[str, list[dict[str, Any]]] = {}
        self._folder = folder
        self._kept = folder / "kept"
        docker = folder / "bin" / "docker"
        docker.parent.mkdir()
        docker.write_text(DOCKER)
        docker.chmod(0o755)
        os.environ.update(PATH=f"{docker.parent}:{os.environ['PATH']}", KEPT=str(self._kept))

    def composed(self, name: str) -> None:
        """Read what docker compose was given."""
        (root,) = {path.parent for path in self._kept.glob("docker-compose.y*ml")}
        services = yaml.safe_load(next(root.glob("docker-compose.y*ml")).read_text())["services"]
        self.made[name] = []
        for host in sorted(services):
            environ = dict(entry.split("=", 1) for entry in services[host]["environment"])
            files = {}
            for volume in services[host]["volumes"]:
                source, target = volume.removesuffix(":z").rsplit(":", 1)
                for path in (root / host).rglob("*.json"):
                    # The SDK removes its own folder; this is the copy.
                    where = Path(source).name if Path(source).parent.name == host else None
                    if where and path.is_relative_to(root / host / where):
                        files[str(Path(target, path.relative_to(root / host / where)))] = path.read_text()
            self.made[name].append({"environ": environ, "files": files})
        shutil.rmtree(self._kept)

    def bootstrapped(self, name: str, module: Any, hosts: int, **options: Any) -> None:
        """Run what `@remote` and `@step` run in each container before the user's function."""
        names = [f"algo-{number}" for number in range(1, hosts + 1)]
        self.made[name] = []
        for host in names:
            group = {"instance_group_name": "homogeneousCluster", "instance_type": "ml.m5.xlarge", "hosts": names}
            resources = {  # SageMaker's
                "current_host": host,
                "current_instance_type": "ml.m5.xlarge",
                "current_group_name": "homogeneousCluster",
                "hosts": names,
                "instance_groups": [group],
                "network_interface_name": "eth0",
            }
            self.made[name].append(self.exported(module, resources, **options))

    def exported(self, module: Any, resources: dict[str, Any], **options: Any) -> dict[str, Any]:
        output = self._folder / "exported"
        os.environ["TRAINING_JOB_NAME"] = "digits"
        module.set_env(resource_config=resources, output_file=str(output), **options)
        lines = output.read_text().splitlines()
        environ = dict(shlex.split(line)[1].split("=", 1) for line in lines)
        return {
            "environ": environ | {"TRAINING_JOB_NAME": "digits"},
            "files": {"/opt/ml/input/config/resourceconfig.json": json.dumps(resources)},
        }


def v2(containers: Containers, folder: Path) -> None:
    from sagemaker.local import LocalSession  # noqa: PLC0415 - of this SDK alone
    from sagemaker.local.image import _SageMakerContainer  # noqa: PLC0415 - the same
    from sagemaker.remote_function.runtime_environment import bootstrap_runtime_environment  # noqa: PLC0415 - the same
    from sagemaker.workflow.notebook_job_step import NotebookJobStep  # noqa: PLC0415 - the same

    session = LocalSession(boto_session=boto3.Session(region_name="us-east-1"))
    session.config = {"local": {"container_root": str(folder)}}
    output = {"S3OutputPath": f"file://{folder / 'out'}"}
    (folder / "out").mkdir()
    hyperparameters = {"sagemaker_program": '"train.py"', "_tuning_objective_metric": '"val_loss"', "lr": "0.1"}
    for hosts in (1, 2):
        container = _SageMakerContainer("local", hosts, "image", sagemaker_session=session)
        container.train([], output, hyperparameters, {"COLOUR": "blue"}, "digits")
        containers.composed(f"local training, {hosts}")
    container = _SageMakerContainer("local", 2, "image", sagemaker_session=session)
    container.process([], {"Outputs": []}, {"COLOUR": "blue"}, "digits-processing")
    containers.composed("local processing")
    (folder / "model").mkdir()
    container = _SageMakerContainer("local", 1, "image", sagemaker_session=session)
    container.serve(f"file://{folder / 'model'}", {"SAGEMAKER_PROGRAM": "serve.py"})
    container.container.join()
    containers.composed("local serving")

    step = types.SimpleNamespace(
        environment_variables={"COLOUR": "blue"},
        initialization_script=None,
        input_notebook="train.ipynb",
        kernel_name="python3",
        _region_from_session="us-east-1",
        _underlying_job_prefix="digits",
    )
    containers.made["notebook job"] = [{"environ": NotebookJobStep._prepare_env_variables(step), "files": {}}]
    remote(containers, bootstrap_runtime_environment)


def v3(containers: Containers, folder: Path) -> None:
    import sagemaker.train  # noqa: PLC0415 - of this SDK alone
    from sagemaker.core.remote_function.runtime_environment import (  # noqa: PLC0415 - the same
        bootstrap_runtime_environment,
    )
    from sagemaker.train.local.local_container import _LocalContainer  # noqa: PLC0415 - the same

    scripts = Path(str(sagemaker.train.__file__)).with_name("container_drivers") / "scripts"
    sys.path.insert(0, str(scripts))
    spec = importlib.util.spec_from_file_location("environment", scripts / "environment.py")
    assert spec is not None
    assert spec.loader is not None
    driver = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(driver)
    for hosts in (1, 2):
        name, root = f"local training, {hosts}", folder / f"local-{hosts}"
        root.mkdir()
        (root / "model").mkdir()
        _LocalContainer(
            training_job_name="digits",
            instance_type="local_cpu",
            instance_count=hosts,
            image="image",
            container_root=str(root),
            input_data_config=[],
            environment={"COLOUR": "blue"},
            hyper_parameters={"lr": "0.1"},
            container_entrypoint=["/bin/bash"],
            container_arguments=["-c", "/opt/ml/input/data/sm_drivers/sm_train.sh"],
        ).train(wait=True)
        containers.composed(name)
        for container in containers.made[name]:  # what the drivers add in each of them, before the script
            resources = json.loads(container["files"]["/opt/ml/input/config/resourceconfig.json"])
            added = containers.exported(driver, resources, input_data_config={}, hyperparameters_config={})
            container["environ"] |= added["environ"]
    remote(containers, bootstrap_runtime_environment)


def remote(containers: Containers, module: Any) -> None:
    for hosts in (1, 2):
        for launcher in (None, "torchrun", "mpirun"):
            name = f"remote, {launcher or 'plain'}, {hosts}"
            containers.bootstrapped(name, module, hosts, distribution=launcher, user_nproc_per_node="2")


if __name__ == "__main__":
    made, place = Containers(Path(sys.argv[2])), Path(sys.argv[2])
    {"v2": v2, "v3": v3}[sys.argv[1]](made, place)
    text = json.dumps(made.made)
    (place / "made.json").write_text(re.sub(r"algo-(\d)-\w{5}", r"algo-\1-xxxxx", text))
