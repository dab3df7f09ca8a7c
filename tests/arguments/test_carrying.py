from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sagemaker_training import mapping

from lightning_sagemaker.arguments import ENTRY, carry, entry, launcher_line

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# What users write: flags, lists, `key=value` (Hydra), subcommands (LightningCLI), quotes, JSON, empty strings, repeated
# names, `--`, numbers, and any text.
WORDS = st.sampled_from(
    [
        *("fit", "--config", "c.yaml", "model.lr=0.1", "+trainer=ddp", "--fast", "--lr", "1e-3", "--lr=0.1", "-e", "3"),
        *(
            "--",
            "-1",
            "",
            " ",
            "'",
            '"',
            '{"a": [1]}',
            "[1,2]",
            "--a.b",
            "$HOME",
            "*",
            "a b",
            "\n",
            "--sagemaker_x",
            "1",
        ),
        *("01", "true", "--e"),
    ]
)
ARGUMENTS = st.lists(WORDS | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), max_size=8)


def arriving(arguments: list[str], changed: Mapping[str, object], folder: Path) -> list[str]:
    """The command line of a script that the entry script starts, where hyperparameters were changed by a tuning job."""
    config = folder / "ml" / "input" / "config"
    config.mkdir(parents=True, exist_ok=True)
    script = folder / "train.py"
    script.write_text("import sys\nARGUMENTS = sys.argv\nNAME, FILE = __name__, __file__\n")
    carried = carry(arguments)
    carried.write(folder, script.name)
    sent = {name: json.dumps(value) for name, value in {**carried.hyperparameters, **changed}.items()}
    (config / "hyperparameters.json").write_text(json.dumps(sent))
    found: dict[str, Any] = {}
    with (
        mock.patch.object(sys, "argv", ["entry"]),
        mock.patch.object(sys, "path", ["entry's folder", *sys.path[1:]]),
        mock.patch.object(entry, "__file__", str(folder / ENTRY)),
        mock.patch.dict(os.environ, {"SAGEMAKER_BASE_DIR": str(folder / "ml")}),
        mock.patch.object(
            runpy, "run_path", lambda path, run_name: found.update(path=path, name=run_name, argv=[*sys.argv])
        ),
    ):
        entry._main()
    assert (found["path"], found["name"], found["argv"][0]) == (str(script), "__main__", str(script))
    return list(found["argv"][1:])


@settings(deadline=None)  # a busy machine writes the files in its own time
@given(ARGUMENTS)
@example(["--b", "1", "--a", "2"])
def test_any_arguments_arrive_unchanged_by_the_launcher_s_own_line_or_the_entry_script(
    tmp_path_factory: pytest.TempPathFactory, arguments: list[str]
) -> None:
    carried = carry(arguments)
    if carried.by_entry_script:
        assert arriving(arguments, {}, tmp_path_factory.mktemp("job")) == arguments
    else:
        assert launcher_line(carried.hyperparameters) == arguments


@given(ARGUMENTS)
def test_the_launcher_s_line_is_the_real_toolkit_s(arguments: list[str]) -> None:
    sent = carry(arguments).hyperparameters
    received = {name: json.loads(json.dumps(value)) for name, value in sent.items()}
    assert mapping.to_cmd_args(received) == launcher_line(sent)


@pytest.mark.parametrize(
    ("arguments", "hyperparameters", "by_entry_script", "in_pairs"),
    [
        ([], {}, False, True),
        (["--epochs", "3", "--lr", "0.1"], {"epochs": 3, "lr": 0.1}, False, True),
        (["--lr", "0.1", "--epochs", "3"], {"lr": 0.1, "epochs": 3}, True, True),
        (["--lr=1e-3"], {"lr": "1e-3"}, True, True),
        (["-c", "x"], {"c": "x"}, False, True),
        (["--c", "x"], {"c": "x"}, True, False),
        (["--big", "1_0", "--nan", "nan"], {"big": "1_0", "nan": "nan"}, False, True),
        (["--shift", "-1", "--text", "a - b"], {"shift": -1}, True, False),
        (["--verbose", "--a1", "1", "file"], {"a1": 1}, True, False),
        (["--a1", "1", "--a1", "2"], {"a1": 1}, True, False),
        (["fit", "--config", "c.yaml"], {"config": "c.yaml"}, True, False),
        (["--sagemaker_program", "x", "--long", "x" * 2501], {}, True, False),
    ],
)
def test_what_hyperparameters_can_carry_they_do(
    arguments: list[str], hyperparameters: dict[str, Any], by_entry_script: bool, in_pairs: bool
) -> None:
    carried = carry(arguments)
    assert carried.hyperparameters == hyperparameters
    assert (carried.by_entry_script, carried.in_pairs) == (by_entry_script, in_pairs)


def test_more_arguments_than_a_job_may_have_hyperparameters_arrive(tmp_path: Path) -> None:
    arguments = [text for number in range(150) for text in (f"--n{number}", str(number))]
    assert len(carry(arguments).hyperparameters) <= 80
    assert arriving(arguments, {}, tmp_path) == arguments


def test_a_tuning_job_s_values_arrive_in_their_places(tmp_path: Path) -> None:
    arguments = ["fit", "--model.lr=0.1", "--trainer.max_epochs", "3", "--fast"]
    assert arriving(arguments, {"model.lr": "0.02", "_tuning_objective_metric": "val_loss"}, tmp_path) == [
        *("fit", "--model.lr=0.02", "--trainer.max_epochs", "3", "--fast")
    ]


def test_a_null_character_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'a\\x00b' has a null character.*HINT"):
        carry(["a\0b"])


SCRIPT = """
import multiprocessing, os, sys
import helper

def child(queue):
    queue.put(("child", __name__, sys.argv[1:]))

if __name__ == "__main__":
    queue = multiprocessing.get_context("spawn").Queue()
    process = multiprocessing.get_context("spawn").Process(target=child, args=(queue,))
    process.start()
    print(queue.get(), __spec__, os.path.basename(__file__), sys.argv[1:], helper.__name__)
    process.join()
    raise SystemExit(7)
"""


def test_the_script_is_the_main_module_with_its_own_folder_exit_code_and_spawned_children(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "train.py").write_text(SCRIPT)
    (tmp_path / "src" / "helper.py").write_text("")
    (tmp_path / "ml" / "input" / "config").mkdir(parents=True)
    (tmp_path / "ml" / "input" / "config" / "hyperparameters.json").write_text("{}")
    carry(["fit", "a b"]).write(tmp_path, "src/train.py")
    environ = os.environ | {"SAGEMAKER_BASE_DIR": str(tmp_path / "ml")}
    done = subprocess.run(
        [sys.executable, ENTRY], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 7, done.stderr
    assert done.stdout == "('child', '__mp_main__', ['fit', 'a b']) None train.py ['fit', 'a b'] helper\n"
