"""Fetching what a job has made: from moto's S3, since it plays that completely."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import tarfile
import threading
import time
from textwrap import indent
from typing import TYPE_CHECKING, Any, Literal

import pytest

from lightning_sagemaker.jobs.downloads import unpack

from ..submit.aws import BUCKET, Aws, Run, sdk_python, serving  # noqa: TID252 - importmode=importlib
from .conftest import Console, command, environ
from .service import Service, World, described

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("aws")

PUT = """
import boto3, json, sys
s3 = boto3.client("s3")
for key, text in json.loads({objects!r}).items():
    s3.put_object(Bucket={bucket!r}, Key=key, Body=text.encode("latin-1"))
"""


def packed(*entries: tarfile.TarInfo | tuple[str, str], mode: Literal["w", "w:gz"] = "w:gz") -> bytes:
    """An archive with files, by name and text, and with what else it shall hold."""
    content = io.BytesIO()
    with tarfile.open(None, mode, content) as archive:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                archive.addfile(entry)
            else:
                info = tarfile.TarInfo(entry[0])
                info.size = len(entry[1])
                archive.addfile(info, io.BytesIO(entry[1].encode()))
    return content.getvalue()


class Place:
    """Where one test's job and its objects are."""

    def __init__(self, world: World, console: Console, aws: Aws, url: str, folder: Path) -> None:
        self.name = f"job-{time.time_ns()}"
        self.prefix = f"{self.name}-runs"
        self.folder = folder / self.name
        self.world = world
        self._console = console
        self._urls = (aws.url, url)
        self.describe()

    def describe(self, status: str = "Completed", **changes: Any) -> None:
        output = f"s3://{BUCKET}/{self.prefix}"
        self.world.add(
            described(
                self.name,
                status,
                **{
                    "OutputDataConfig": {"S3OutputPath": output},
                    "ModelArtifacts": {"S3ModelArtifacts": f"{output}/{self.name}/output/model.tar.gz"},
                    "CheckpointConfig": {"S3Uri": f"s3://{BUCKET}/{self.prefix}/checkpoints"},
                    **changes,
                },
            )
        )

    def put(self, **objects: bytes) -> None:
        """Put objects: what begins with ``output/`` lies there, all else below the prefix."""
        keys = {
            f"{self.prefix}/{f'{self.name}/' if key.startswith('output/') else ''}{key}": content.decode("latin-1")
            for key, content in objects.items()
        }
        run = self.python(PUT.format(objects=json.dumps(keys), bucket=BUCKET))
        assert run.code == 0, run.err

    def python(self, program: str) -> Run:
        """Run a program; SageMaker is the service of the tests, and all else moto."""
        s3, sagemaker = self._urls
        return self._console.python(program, self.folder.parent, s3, AWS_ENDPOINT_URL_SAGEMAKER=sagemaker)

    def fetch(self, *arguments: object) -> Run:
        """Run `jobs download`."""
        return self.python(command("download", self.name, *arguments))

    def files(self) -> dict[str, str]:
        """What lies below the folder, hidden files included, but for archives in it."""
        paths = (path for path in sorted(self.folder.rglob("*")) if path.is_file() and path.parent != self.folder)
        return {path.relative_to(self.folder).as_posix(): path.read_bytes().decode("latin-1") for path in paths}


@pytest.fixture
def place(world: World, console: Console, aws: Aws, url: str, tmp_path: Path) -> Place:
    """A completed job that has made nothing yet."""
    return Place(world, console, aws, url, tmp_path)


MODEL = packed(("model.ckpt", "weights"), ("code/train.py", "pass"))
OUTPUT = packed(("samples.txt", "sample"))


def test_model_and_output_are_fetched_unpacked_and_told_with_their_sizes(place: Place) -> None:
    place.put(**{"output/model.tar.gz": MODEL, "output/output.tar.gz": OUTPUT})
    run = place.fetch()
    assert (run.code, run.err) == (0, "")
    assert run.out.splitlines() == [
        f"to fetch: 2 of 2 file(s), {len(MODEL) + len(OUTPUT)} B",
        f"{len(MODEL)} B  {place.name}/model.tar.gz, unpacked in {place.name}/model",
        f"{len(OUTPUT)} B  {place.name}/output.tar.gz, unpacked in {place.name}/output",
    ]
    assert place.files() == {
        "model/model.ckpt": "weights",
        "model/code/train.py": "pass",
        "output/samples.txt": "sample",
    }


def test_what_is_here_already_is_not_fetched_again(place: Place) -> None:
    place.put(**{"output/model.tar.gz": MODEL})
    assert place.fetch("--model").code == 0
    written = (place.folder / "model.tar.gz").stat().st_mtime_ns
    (place.folder / "model" / "model.ckpt").write_text("mine now")
    run = place.fetch()
    assert run.out.startswith("to fetch: 0 of 1 file(s), 0 B\n")
    assert run.out.endswith("  (was there already)\n")
    assert (place.folder / "model.tar.gz").stat().st_mtime_ns == written
    assert place.files()["model/model.ckpt"] == "mine now"


def test_checkpoints_come_with_their_folders_and_without_their_neighbours(place: Place) -> None:
    objects = {"checkpoints/last.ckpt": b"last", "checkpoints/fold 1/é.ckpt": b"deep", "checkpoints/fold 2/": b""}
    objects |= {"checkpoints/packed.tar.gz": MODEL, "checkpoints//slash.ckpt": b"deep"}
    place.put(**objects, **{"checkpoints-2/last.ckpt": b"of another job", "output/model.tar.gz": MODEL})
    run = place.fetch("--checkpoints", "--to", place.folder / "here")
    assert run.code == 0, run.err
    here = {
        "last.ckpt": "last",
        "fold 1/é.ckpt": "deep",
        "slash.ckpt": "deep",
        "packed.tar.gz": MODEL.decode("latin-1"),
    }
    assert place.files() == {f"here/checkpoints/{name}": content for name, content in here.items()}
    assert f"4 B  {place.folder}/here/checkpoints/last.ckpt\n" in run.out


def test_an_older_checkpoint_of_the_same_size_does_not_pass_for_the_newer_one(place: Place) -> None:
    place.put(**{"checkpoints/last.ckpt": b"epoch 1"})
    assert place.fetch("--checkpoints").code == 0
    assert place.fetch("--checkpoints").out.startswith("to fetch: 0 of 1 file(s)")
    time.sleep(1.1)  # S3 tells whole seconds
    place.put(**{"checkpoints/last.ckpt": b"epoch 2"})
    run = place.fetch("--checkpoints")
    assert run.code == 2
    assert f"{place.name}/checkpoints/last.ckpt exists, and differs from the job's file or is older." in run.err
    assert place.fetch("--checkpoints", "--force").code == 0
    assert place.files() == {"checkpoints/last.ckpt": "epoch 2"}


FETCH = """
import boto3
from lightning_sagemaker.jobs.downloads import find_files
found = find_files({name!r}, None, {{"checkpoints"}})
boto3.client("s3").delete_object(Bucket={bucket!r}, Key="{prefix}/checkpoints/a.ckpt")
for one in found:
    print(one.fetch(force=False))
"""


def test_a_checkpoint_that_the_running_job_deletes_meanwhile_is_told_and_the_others_are_fetched(place: Place) -> None:
    place.put(**{"checkpoints/a.ckpt": b"old", "checkpoints/b.ckpt": b"newer"})
    run = place.python(FETCH.format(name=place.name, bucket=BUCKET, prefix=place.prefix))
    assert run.code == 0, run.err
    folder = f"{place.name}/checkpoints"
    assert run.out == f"3 B  {folder}/a.ckpt  (deleted meanwhile)\n5 B  {folder}/b.ckpt\n"
    assert place.files() == {"checkpoints/b.ckpt": "newer"}


FULL = """
import resource, sys
sys.dont_write_bytecode = True  # half a file
limit = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, limit[1]))
try:
{command}
finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    sys.dont_write_bytecode = False
"""


@pytest.mark.parametrize("room", [100, 1000])  # too little for the archive, or for what is in it
def test_where_there_is_no_room_the_file_is_named(place: Place, room: int) -> None:
    place.put(**{"output/model.tar.gz": packed(("zeros", "0" * 100_000))})  # packed: about 300 B
    run = place.python(FULL.format(size=room, command=indent(command("download", place.name, "--model"), "    ")))
    assert run.code == 2
    assert run.err.startswith(
        f"lightning-sagemaker jobs download: error: File too large: {place.name}/model.tar.gz. HINT: "
    )


@pytest.mark.nightly
def test_more_checkpoints_than_one_answer_lists_are_all_fetched(place: Place) -> None:
    place.put(**{f"checkpoints/{number}": b"" for number in range(1001)})
    assert len(place.fetch("--checkpoints").out.splitlines()) == 1 + 1001


def test_a_model_that_is_not_packed_is_fetched_file_by_file(place: Place) -> None:
    uri = f"s3://{BUCKET}/{place.prefix}/{place.name}/output/model/"
    place.describe(ModelArtifacts={"S3ModelArtifacts": uri})
    place.put(**{"output/model/a.ckpt": b"a", "output/model/b/c.ckpt": b"c", "output/data/sample": b"s"})
    assert place.fetch().code == 0
    assert place.files() == {"model/a.ckpt": "a", "model/b/c.ckpt": "c", "output/sample": "s"}


@pytest.mark.parametrize("other", ["model.tar.gz", "model", "checkpoints/b.ckpt"])
def test_another_file_that_lies_there_stays_and_nothing_is_fetched(place: Place, other: str) -> None:
    place.put(**{"output/model.tar.gz": MODEL, "checkpoints/a.ckpt": b"a", "checkpoints/b.ckpt": b"b"})
    path = place.folder / other
    path.parent.mkdir(parents=True)
    path.write_text("of the user's")
    run = place.fetch("--model", "--checkpoints")
    assert (run.code, run.out) == (2, "")
    assert (
        f"error: {place.name}/{other} exists, and differs from the job's file or is older. HINT: --to another"
        in run.err
    )
    assert [path for path in place.folder.rglob("*") if path.is_file()] == [path]
    assert place.fetch("--model", "--checkpoints", "--force").code == 0
    assert place.files() == {
        "model/model.ckpt": "weights",
        "model/code/train.py": "pass",
        "checkpoints/a.ckpt": "a",
        "checkpoints/b.ckpt": "b",
    }


@pytest.mark.parametrize(
    ("status", "secondary", "given", "lacks"),
    [
        ("InProgress", "Training", (), "model and no output"),
        ("Failed", "Failed", ("--model",), "model"),
        ("Completed", "Completed", ("--output", "--checkpoints"), "checkpoints and no output"),
    ],
)
def test_what_the_job_has_not_made_is_told_with_its_state(
    place: Place, status: str, secondary: str, given: tuple[str, ...], lacks: str
) -> None:
    without = {"ModelArtifacts": None} if status != "Completed" else {"CheckpointConfig": None}
    place.describe(status, SecondaryStatus=secondary, **without)
    run = place.fetch(*given)
    assert run.code == 2
    assert f"error: {place.name} has no {lacks} in S3: it is {status} ({secondary}). HINT: " in run.err
    assert not place.folder.exists()


def link(name: str, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


def device(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = tarfile.FIFOTYPE
    return info


@pytest.mark.parametrize(
    "content",
    [
        packed(("a", "a"), ("../evil", "x")),
        packed(("a", "a"), link("out", "/etc")),
        packed(("a", "a"), link("out", "../.."), ("out/evil", "x")),
        packed(("a", "a"), device("pipe")),
        MODEL[: len(MODEL) // 2],
        b"no archive at all",
    ],
    ids=["parent", "absolute link", "link to parent", "device", "cut", "other"],
)
@pytest.mark.parametrize("filters", [True, False])
def test_an_archive_that_leads_out_of_its_folder_or_is_damaged_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, *, filters: bool
) -> None:
    if not filters:  # as Python before 3.10.12 and 3.11.4
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    here = tmp_path / "here"
    here.mkdir()
    archive = here / "model.tar.gz"
    archive.write_bytes(content)
    with pytest.raises(ValueError, match=r"(?s)model\.tar\.gz is not unpacked: .*HINT: `tar -t`"):
        unpack(archive, here / "model")
    assert [*tmp_path.rglob("*")] == [here, archive]


def test_a_python_that_cannot_refuse_paths_unpacks_plain_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(tarfile, "data_filter", raising=False)
    archive = tmp_path / "model.tar.gz"
    archive.write_bytes(MODEL)
    unpack(archive, tmp_path / "model")
    assert {path.name: path.read_text() for path in (tmp_path / "model").rglob("*") if path.is_file()} == {
        "model.ckpt": "weights",
        "train.py": "pass",
    }


# --- S3 that moto does not play ------------------------------------------------------------------------------------

LISTING = """<ListBucketResult><Name>bucket</Name><IsTruncated>false</IsTruncated>
<Contents><Key>{key}</Key><Size>4</Size><LastModified>2026-12-01T09:30:00Z</LastModified></Contents></ListBucketResult>"""


class Bucket(Service):
    """S3 with one object, whose second half it keeps for itself until it may go on; or with one key in its list."""

    may_go_on: threading.Event
    key = ""

    def do_HEAD(self) -> None:  # noqa: N802 - http.server's name
        self.send_response(200)
        self.send_header("Content-Length", str(len(MODEL)))
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", "Tue, 01 Dec 2026 09:30:00 GMT")
        self.end_headers()

    def do_GET(self) -> None:  # noqa: N802 - the same
        if self.key:
            content = LISTING.format(key=self.key).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            return
        self.do_HEAD()
        self.wfile.write(MODEL[: len(MODEL) // 2])
        self.wfile.flush()
        self.may_go_on.wait(60)
        self.wfile.write(MODEL[len(MODEL) // 2 :])


def test_a_file_has_its_name_once_it_is_complete_and_a_killed_downloads_part_is_removed(
    world: World, tmp_path: Path
) -> None:
    world.add(described("digits"))
    may_go_on = threading.Event()
    with serving(Bucket, world=world, may_go_on=may_go_on) as url:
        run: Callable[..., subprocess.Popen[str]] = lambda: subprocess.Popen(  # noqa: E731 - twice the same
            [sdk_python("v2"), "-c", command("download", "digits", "--model")],
            env=environ(url),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            text=True,
        )
        first = run()
        try:
            deadline = time.monotonic() + 60
            while not [*tmp_path.glob("digits/.*.part")]:
                assert first.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            first.send_signal(signal.SIGKILL)
            first.communicate(timeout=60)
        finally:
            first.kill()
            first.wait()
        (left,) = (tmp_path / "digits").iterdir()
        assert left.name.startswith(".")
        may_go_on.set()
        second = run()
        out, _ = second.communicate(timeout=100)
    assert second.returncode == 0
    assert out.partition("\n")[2] == f"{len(MODEL)} B  digits/model.tar.gz, unpacked in digits/model\n"
    assert {path.name for path in (tmp_path / "digits").iterdir()} == {"model", "model.tar.gz"}


@pytest.mark.parametrize("key", ["../evil", "a/../../evil", "/../evil"])
def test_a_key_that_leads_out_of_the_folder_is_refused(
    world: World, console: Console, tmp_path: Path, key: str
) -> None:
    world.add(described("digits", CheckpointConfig={"S3Uri": "s3://bucket/checkpoints"}))
    with serving(Bucket, world=world, key=f"checkpoints/{key}") as url:
        run = console.python(command("download", "digits", "--checkpoints"), tmp_path, url)
    assert (run.code, run.out) == (2, "")
    assert f"error: The key {key!r} in S3 points outside its folder. HINT: " in run.err
    assert [*tmp_path.iterdir()] == []
