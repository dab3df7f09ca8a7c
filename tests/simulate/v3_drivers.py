"""The container drivers of the installed SDK v3, and the script by which it starts them."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path

from .helpers import require


def sdk() -> Path:
    """Return the folder of the installed ``sagemaker.train``; importing it would need the whole SDK."""
    try:
        return Path(str(importlib.metadata.distribution("sagemaker-train").locate_file("sagemaker/train")))
    except importlib.metadata.PackageNotFoundError:
        require("SDK v3's drivers are not installed (sagemaker-train, without dependencies)")
        raise


def train_script(driver: str) -> str:
    """Fill the SDK's template in, as its ModelTrainer does.

    Args:
        driver: File of the distributed driver; empty for none.
    """
    spec = importlib.util.spec_from_file_location("sm_templates", sdk() / "templates.py")
    assert spec is not None
    assert spec.loader is not None
    templates = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(templates)
    execute = str(templates.EXECUTE_BASIC_SCRIPT_DRIVER)
    if driver:
        execute = templates.EXEUCTE_DISTRIBUTED_DRIVER.format(
            driver_name=driver.partition("_")[0], driver_script=driver
        )
    return str(
        templates.TRAIN_SCRIPT_TEMPLATE.format(
            working_dir="cd /opt/ml/input/data/code",
            install_requirements="",
            execute_driver=execute,
        ),
    ).lstrip()
