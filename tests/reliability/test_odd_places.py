"""Results in odd places: spaces, Unicode, bytes that are no text, read-only folders, unrecognised files."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from commits import a_record, a_run, commit, folder_in

import repro.cli
from repro.engine import checkpoint
from repro.results import read_record, write_record

Say = Callable[..., tuple[int, str]]
ODD = [
    *("with space", "日本 ü😀", "res\udcff", "new\nline", "-dash", "'quote\""),
    *("$(touch canary)", "a;touch canary", "*", "~"),
]
# Root may read and write everywhere, unless it gives that up.
AS_ANYBODY = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search")


def as_anybody() -> tuple[str, ...]:
    """What a command is started through to be held to permissions."""
    through = AS_ANYBODY if os.geteuid() == 0 else ()
    if through and not (shutil.which("setpriv") and subprocess.run([*through, "true"], check=False).returncode == 0):
        pytest.skip("root may read and write everywhere, and setpriv is not here to change that")
    return through


@pytest.fixture
def say(tmp_path: Path) -> Say:
    """Runs a command as a process of its own in the test's folder, with a strict terminal."""

    def run(*arguments: str, through: tuple[str, ...] = (), encoding: str = "utf-8") -> tuple[int, str]:
        done = subprocess.run(
            [*through, sys.executable, "-m", "repro", *arguments],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                "PYTHONIOENCODING": f"{encoding}:strict",
                "HOME": str(tmp_path),
            },
        )
        said = done.stdout.decode(errors="replace")
        assert "Traceback" not in said, said
        return done.returncode, said

    return run


@pytest.mark.slow
@pytest.mark.parametrize("name", ODD, ids=ascii)
def test_results_may_have_any_name(name: str, tmp_path: Path, say: Say) -> None:
    results = tmp_path / name
    write_record(folder_in(results), a_record())
    commit(folder_in(results, a_run(seed=1)), 1, run=a_run(seed=1))
    assert read_record(folder_in(results).record) == a_record()
    given = str(results) if name.startswith("~") else name  # a leading ~ is the home folder, as in a shell
    for command in (("status",), ("table", "demo")):
        for encoding in ("utf-8", "ascii") if command == ("status",) else ("utf-8",):
            code, said = say(*command, "--results", given, encoding=encoding)
            assert code == 0, said
    assert "1 of 12 runs recorded" in said
    if name.isprintable() and "\udcff" not in name:
        [line] = [line for line in said.splitlines() if "runs the rest" in line]
        words = shlex.split(line.partition("`")[2].rpartition("`")[0])
        assert words[words.index("--results") + 1] == given  # what is to be pasted means this folder
    code, said = say("verify", "--", given)
    assert (code, "1 record and 1 checkpoint are whole" in said) == (0, True)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    "results",
    ["/dev/null/x", "/proc/x", "x" * 300, "loop/x", "file"],
    ids=["below a device", "in proc", "too long", "a loop of links", "a file"],
)
def test_a_place_that_cannot_be_is_said_so(results: str, tmp_path: Path, say: Say) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text("mine")
    code, said = say("train", "demo", "--results", results)
    assert code == 2, said
    assert results in said
    assert (tmp_path / "file").read_text() == "mine"
    left = {path.name for path in tmp_path.iterdir()} - {".cache"}  # torch's own, in the home folder that this is
    assert left == {"file", "loop"}


def test_results_that_may_only_be_read_are_read_and_never_written(tmp_path: Path, say: Say) -> None:
    results = tmp_path / "results"
    write_record(folder_in(results), a_record())
    commit(folder_in(results, a_run(seed=1)), 1, run=a_run(seed=1))
    through = as_anybody()
    folders = [results, *(path for path in results.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    before = {path: path.stat().st_mtime_ns for path in results.rglob("*")}
    try:
        for command in (("status",), ("table", "demo")):
            code, said = say(*command, "--results", "results", through=through)
            assert code == 0, said
        assert say("verify", "results", through=through)[0] == 0
        for training in (("train", "demo", "--seed", "1"), ("sweep", "demo", "--device", "cpu")):
            code, said = say(*training, "--results", "results", through=through)
            assert code == 2, said
            assert "results" in said
            assert "Permission denied" in said
        assert {path: path.stat().st_mtime_ns for path in results.rglob("*")} == before
    finally:
        for folder in folders:
            folder.chmod(0o755)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
@pytest.mark.parametrize("below", [".", "demo"])
def test_another_users_folders_are_named_with_their_owner_and_the_way_out(below: str, tmp_path: Path, say: Say) -> None:
    through = as_anybody()
    results = tmp_path / "results"
    write_record(folder_in(results), a_record())
    results.chmod(0o777)
    closed = results / below
    os.chown(closed, 12345, 12345)
    closed.chmod(0o700)
    for command in ("status", "sweep demo --device cpu", "train demo"):
        code, said = say(*command.split(), "--results", "results", through=through)
        assert code in (1, 2), said
        assert f"{closed} belongs to user 12345: ask them to share it (chmod -R g+rwX, and umask 002" in said, command
    closed.chmod(0o755)
    os.chown(folder_in(results).path.parent.parent, 12345, 12345)  # of the network: its cells cannot be made
    code, said = say("sweep", "demo", "--device", "cpu", "--results", "results", through=through)
    assert code == 2, said
    assert "cannot write to the results folder: Permission denied" in said
    assert "belongs to user 12345: ask them to share it" in said


@pytest.mark.parametrize("mode", [0o000, 0o400], ids=["closed", "listed and not entered"])
def test_folders_that_may_not_be_read_are_named_each(mode: int, tmp_path: Path, say: Say) -> None:
    through = as_anybody()
    results = tmp_path / "results"
    runs = [a_run(seed=seed) for seed in range(4)]
    for run in runs:
        write_record(folder_in(results, run), a_record(run))
    (results / "mine" / "row").mkdir(parents=True)
    closed = [folder_in(results, runs[0]).path, folder_in(results, runs[2]).path, results / "mine"]
    for folder in closed:
        folder.chmod(mode)
    try:
        code, said = say("verify", "results", through=through)
    finally:
        for folder in closed:
            folder.chmod(0o700)
    assert code == 1
    for folder in closed:
        assert f"{folder.relative_to(tmp_path)}: cannot be read: Permission denied" in said
    assert "2 records and 0 checkpoints are whole; none damaged, 3 unreadable" in said


def test_unrecognised_files_among_the_results_are_left_alone(tmp_path: Path, say: Say) -> None:
    results = tmp_path / "results"
    write_record(folder_in(results), a_record())
    run = folder_in(results).path
    unrecognised = [
        results / "notes.txt",
        results / ".DS_Store",
        results / "demo" / "Thumbs.db",
        results / "demo" / "shufflenetv2" / "x.pt",
        results / "demo" / "shufflenetv2" / "bias" / "seed-99999999999999999999" / "run.json",
        results / "demo" / "shufflenetv2" / "bias" / "seed--1" / "run.json",
        results / "demo" / "shufflenetv2" / "bias" / "seed-٣" / "run.json",
        results / "demo" / "unknown row" / "ce" / "seed-0" / "run.json",
        results / "other\udcff" / "a" / "b" / "seed-0" / "run.json",
        run / "core.1234",
        run / "checkpoint.pt~",
    ]
    for path in unrecognised:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\x00\xff")
    (results / "demo" / "to nowhere").symlink_to("nowhere")
    (results / "demo" / "to itself").symlink_to("to itself")
    (results / "demo" / "shufflenetv2" / "ce").mkdir()
    (results / "demo" / "shufflenetv2" / "ce" / "seed-0").write_text("a file in a folder's place")
    os.mkfifo(results / "demo" / "pipe")
    for command in (("status",), ("status", "demo"), ("table", "demo"), ("table",)):
        code, said = say(*command, "--results", "results")
        assert code == 0, (command, said)
    code, said = say("sweep", "demo", "--dry-run", "--no-measure", "--device", "cpu", "--results", "results")
    assert code in (0, 2), said
    code, said = say("verify", "results")
    assert code == 1  # some of them lie where records do
    assert "unrecognised" in said
    assert all(path.read_bytes() == b"\x00\xff" for path in unrecognised)


@pytest.mark.timeout(100)
def test_pipes_in_files_places_are_not_waited_for(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    results = tmp_path / "results"

    def say(*arguments: str) -> tuple[int, str]:
        code = repro.cli.run(arguments)
        said = "".join(capfd.readouterr())
        assert "Traceback" not in said, said
        return code, said

    write_record(folder_in(results), a_record())
    names = ("run.json", "checkpoint.pt", "owner-1.json", "progress.json", "failure.json")
    for seed, name in enumerate(names, start=1):
        place = folder_in(results, a_run(seed=seed)).path
        place.mkdir(parents=True)
        os.mkfifo(place / name)
    os.mkfifo(results / "demo" / "looks.json")
    for command in (("status",), ("status", "demo"), ("table", "demo"), ("export", "demo")):
        code, said = say(*command, "--results", str(results))
        assert code == 0, (command, said)
    code, said = say("verify", str(results))
    assert code == 1
    for name in ("run.json", "checkpoint.pt"):
        assert f"{name}: cannot be read: it is a pipe or a device" in said
    code, said = say("train", "demo", "--seed", "1", "--results", str(results))
    assert code == 2
    assert "run.json: cannot be read: it is a pipe or a device" in said
    loaded = checkpoint.load(folder_in(results, a_run(seed=2)), a_run(seed=2).id)
    assert loaded.state is None
    assert "it is a pipe or a device" in loaded.problems[0]
    assert "quarantined as" in loaded.problems[0]
