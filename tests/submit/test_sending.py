from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from lightning_sagemaker import source_folder
from lightning_sagemaker.arguments import ENTRY, ENTRY_ARGUMENTS
from lightning_sagemaker.submit import choices, command, sending

from .aws import BUCKET, ROLE, SDKS, Aws, Run, command_line

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("aws")
JOB = (
    *("--instance-type", "ml.p4d.24xlarge", "--instance-count", "2", "--role", ROLE, "--image", "mine:1"),
    *("--output-uri", f"s3://{BUCKET}/out/"),
)


def send(aws: Aws, script: Path, *options: object, rest: tuple[str, ...] = ()) -> tuple[Run, dict[str, Any]]:
    before = len(aws.requests())
    (run,) = aws.run((script, *JOB, "--requirement", "lightning-sagemaker", *options, "--", *rest))
    assert run.code == 0, run.out + run.err
    (sent,) = aws.requests()[before:]
    return run, sent


def arrived(aws: Aws, sent: dict[str, Any], folder: Path) -> Path:
    aws.download_sources(sent, folder)
    shutil.unpack_archive(folder / "sourcedir.tar.gz", folder / "code")
    return folder / "code"


def test_what_is_sent_is_what_the_dry_run_shows_and_the_name_comes_with_its_page(aws: Aws, script: Path) -> None:
    run, sent = send(aws, script, "--env", "COLOUR=blue", rest=("fit", "--config", "c.yaml"))
    name, link = run.out.splitlines()[-2:]
    assert sent["TrainingJobName"] == name
    assert name.startswith("train-20")
    assert link == f"https://us-east-1.console.aws.amazon.com/sagemaker/home?region=us-east-1#/jobs/{name}"
    (dry,) = aws.run((script, *JOB, "--env", "COLOUR=blue", "--dry-run", "--json", "--", "fit", "--config", "c.yaml"))
    shown = json.loads(dry.out)
    assert json.loads(json.dumps(shown).replace(shown["TrainingJobName"], name)) == sent


def test_the_source_arrives_with_the_entry_script_where_the_arguments_need_it(
    aws: Aws, script: Path, tmp_path: Path
) -> None:
    _, sent = send(aws, script, rest=("fit",))
    code = arrived(aws, sent, tmp_path / "one")
    assert {path.name for path in code.iterdir()} == {"train.py", "requirements.txt", ENTRY, ENTRY_ARGUMENTS}
    assert sent["HyperParameters"]["sagemaker_program"] == json.dumps(ENTRY)
    assert json.loads((code / ENTRY_ARGUMENTS).read_text()) == {"script": "train.py", "arguments": ["fit"]}
    _, plain = send(aws, script, rest=("--epochs", "3"))
    assert {path.name for path in arrived(aws, plain, tmp_path / "two").iterdir()} == {"train.py", "requirements.txt"}
    assert plain["HyperParameters"]["sagemaker_program"] == '"train.py"'


def test_a_key_encrypts_the_source_too(aws: Aws, script: Path) -> None:
    _, sent = send(aws, script, "--output-kms-key", "key-1")
    place = json.loads(sent["HyperParameters"]["sagemaker_submit_directory"])
    bucket, _, key = place.removeprefix("s3://").partition("/")
    head = aws.boto3(f"result = boto3.client('s3').head_object(Bucket={bucket!r}, Key={key!r})")
    assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", "key-1")


@pytest.mark.parametrize("sdk", SDKS)
def test_without_a_place_the_sdk_s_default_bucket_is_made_and_the_package_s_own_wheel_is_sent(
    aws: Aws, script: Path, tmp_path: Path, sdk: str
) -> None:
    before = len(aws.requests())
    (run,) = aws.submit(sdk, (script, "--instance-type", "ml.g5.xlarge", "--role", "Training"))
    assert run.code == 0, run.out + run.err
    (sent,) = aws.requests()[before:]
    assert sent["RoleArn"] == ROLE
    assert sent["OutputDataConfig"]["S3OutputPath"] == "s3://sagemaker-us-east-1-123456789012"
    code = arrived(aws, sent, tmp_path)
    (wheel,) = code.glob("lightning_sagemaker-*.whl")
    assert f"./{wheel.name}" in (code / "requirements.txt").read_text().splitlines()


def test_waiting_follows_the_job_to_its_end(aws: Aws, script: Path) -> None:
    run, sent = send(aws, script, "--wait")
    assert run.out.splitlines()[-1] == f"{sent['TrainingJobName']}: Completed"  # moto's jobs are so at birth
    assert any("Completed: " in line and line.startswith("[") for line in run.out.splitlines())


def test_nothing_is_sent_without_a_role_whatever_is_forced(aws: Aws, script: Path) -> None:
    before = len(aws.requests())
    (run,) = aws.run((script, "--instance-type", "ml.g5.xlarge", "--image", "mine", "--force"))
    assert run.code == 2
    assert "The request is not complete: see the checks of image, role and outputs" in run.err
    assert len(aws.requests()) == before


def test_what_is_forced_is_sent_although_a_check_has_failed(aws: Aws, script: Path) -> None:
    _, sent = send(aws, script, "--strategy", "dpp", "--force")
    assert sent["Environment"]["PL_TRAINER_STRATEGY"] == "dpp"


def test_options_of_a_file_and_of_the_command_line_make_one_job(aws: Aws, script: Path, tmp_path: Path) -> None:
    (shown,) = aws.run((script, *JOB, "--env", "A=x: y", "--channel", "train=s3://b/c:sharded", "--print_config"))
    assert shown.code == 0, shown.err
    file = tmp_path / "job.yaml"
    file.write_text(shown.out + "tags: {a: b}\n")
    common = ("--dry-run", "--json", "--force")
    dry, plain = aws.run(
        ("--config", file, "--env", "B=2", "--env", "HOME_OF=", "--tag", "c=d", "--instance-count", "3", *common),
        (script, *JOB, "--env", "A=x: y", "--channel", "train=s3://b/c:sharded", *common),
    )
    first, second = json.loads(dry.out), json.loads(plain.out)
    assert first["Environment"] == {**second["Environment"], "A": "x: y", "B": "2", "HOME_OF": ""}
    assert first["InputDataConfig"] == second["InputDataConfig"]
    assert first["Tags"] == [{"Key": "a", "Value": "b"}, {"Key": "c", "Value": "d"}]
    assert first["ResourceConfig"]["InstanceCount"] == 3


def test_secrets_are_sent_and_not_shown(aws: Aws, script: Path) -> None:
    secret = "hun" + "ter2-and-words"
    given = ("--env", "WANDB_API_KEY")  # its value from here
    (run,) = aws.run((script, *JOB, *given, "--dry-run", "--", "--password", secret), WANDB_API_KEY=secret)
    assert run.code == 0, run.err
    assert secret not in run.out + run.err
    before = len(aws.requests())
    aws.run(
        (script, *JOB, "--requirement", "lightning-sagemaker", *given, "--", "--password", secret), WANDB_API_KEY=secret
    )
    (sent,) = aws.requests()[before:]
    assert sent["Environment"]["WANDB_API_KEY"] == secret
    assert json.loads(sent["HyperParameters"]["password"]) == secret


def test_a_file_of_the_options_has_no_secret_and_names_what_is_left_out(aws: Aws, script: Path) -> None:
    secret = "hun" + "ter2-and-words"
    url = f"git+https://me:{secret}@example.com/x"
    given = ("--env", "API_TOKEN", "--env", "A=1", "--requirement", url, "--requirement", "rich")
    more = ("--set", f'Environment.TOKEN_HF="{secret}"', "--set", "ResourceConfig.VolumeSizeInGB=5")
    (run,) = aws.run((script, *JOB, *given, *more, "--print_config"), API_TOKEN=secret)
    assert run.code == 0, run.err
    assert secret not in run.out + run.err
    comments = [line for line in run.out.splitlines() if line.startswith("#")]
    assert [line.split(",")[0] for line in comments] == [
        "# left out since it is secret: --env API_TOKEN",
        "# left out since it is secret: --set Environment.TOKEN_HF",
        "# left out since it is secret: --requirement git+https://***@example.com/x",
    ]
    file = script.with_name("job.yaml")
    file.write_text(run.out)
    (dry,) = aws.run(("--config", file, "--env", "API_TOKEN", "--dry-run", "--json", "--force"), API_TOKEN=secret)
    assert json.loads(dry.out)["Environment"]["A"] == "1"
    assert json.loads(dry.out)["ResourceConfig"]["VolumeSizeInGB"] == 5


@pytest.mark.parametrize("sdk", SDKS)
def test_code_for_a_notebook_reads_secrets_where_it_runs(aws: Aws, script: Path, sdk: str) -> None:
    secret = "hun" + "ter2-and-words"
    options = ("--env", "API_TOKEN", "--requirement", f"git+https://me:{secret}@example.com/x", "--as-notebook", sdk)
    (run,) = aws.run((script, *JOB, *options, "--", "--password", secret), API_TOKEN=secret)
    assert run.code == 0, run.err
    assert secret not in run.out + run.err
    assert "'API_TOKEN': os.environ['API_TOKEN']" in run.out
    assert "'password': os.environ['password']" in run.out
    assert "\nimport os  # secrets" in run.out
    compile(run.out, "notebook", "exec")


def test_what_is_set_in_the_request_is_what_is_followed(
    aws: Aws, script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed = []

    def follow(name: str, _session: Any) -> int:
        followed.append(name)
        return 0

    monkeypatch.setattr(command, "follow", follow)
    run, sent = send(aws, script, "--set", 'TrainingJobName="mine-1"', "--wait")
    assert sent["TrainingJobName"] == "mine-1"
    assert run.out.splitlines()[-2] == "mine-1"
    assert followed == ["mine-1"]
    assert json.loads(sent["HyperParameters"]["sagemaker_job_name"]) == "mine-1"


def test_a_channel_of_any_name_is_sent_beside_what_is_set(aws: Aws, script: Path) -> None:
    _, sent = send(
        aws,
        script,
        "--force",
        "--channel",
        "code=s3://bucket-of-tests/data",
        "--set",
        "EnableManagedSpotTraining=false",
    )
    assert [one["ChannelName"] for one in sent["InputDataConfig"]] == ["code"]


def test_what_is_listed_is_what_is_sent_and_the_folder_is_read_once(
    aws: Aws, script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []

    def read_and_change(folder: Path) -> source_folder.Source:
        reads.append(folder)
        found = source_folder.read(folder)
        (folder / "late.txt").touch()
        (folder / "gone.txt").unlink()
        return found

    for module in (choices, sending):
        monkeypatch.setattr(module, "read", read_and_change)
    script.with_name("gone.txt").touch()
    _, sent = send(aws, script)
    assert len(reads) == 1
    assert {path.name for path in arrived(aws, sent, tmp_path / "one").iterdir()} == {"train.py", "requirements.txt"}


def test_a_terminal_that_lacks_a_character_is_shown_its_escape(aws: Aws, tmp_path: Path) -> None:
    script = tmp_path / "caf\xe9" / "train.py"
    script.parent.mkdir()
    script.write_text('class Model:\n    def step(self):\n        self.log("\xe9", 0)\n')
    program = "sys.stdout.reconfigure(encoding='ascii'); sys.stderr.reconfigure(encoding='ascii')\n"
    for options in (("--dry-run",), ("--as-notebook", "v2"), ("--print_config",)):
        line = command_line("submit", script, *JOB, "--requirement", "lightning-sagemaker", *options)
        done = subprocess.run(
            [sys.executable, "-c", f"import sys\n{program}{line}"],
            env=aws.environ,
            capture_output=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        assert b"caf\\xe9" in done.stdout or b"caf\\\\xe9" in done.stdout
