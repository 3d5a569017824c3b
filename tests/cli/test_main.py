from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
import typer.main

import repro
from repro import cli
from repro.errors import RunFailure, UserError

Say = Callable[..., Any]
FREE_SPACE = "Free disk space for the results, the output file, or the target of standard output."


def biasrepro(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "repro", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


@pytest.fixture
def raise_from_cite(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Lets ``biasrepro cite`` end in an error."""

    def set_error(error: BaseException) -> None:
        def broken(*_: object) -> None:
            raise error

        monkeypatch.setattr("builtins.print", broken)

    return set_error


def test_the_version_is_the_package_s(say: Say) -> None:
    assert say("--version").out == f"biasrepro {repro.__version__}\n"


def test_no_arguments_show_the_help(say: Say) -> None:
    said = say()
    assert said.code == 0
    for command in ("train", "sweep", "table", "data", "models", "status", "doctor", "cite"):
        assert command in said.out


@pytest.mark.parametrize("command", ["train", "sweep", "table", "data", "models", "status", "doctor", "cite"])
def test_every_command_has_a_help_that_ends_well(say: Say, command: str) -> None:
    for flag in ("--help", "-h"):
        said = say(command, flag)
        assert said.code == 0
        assert f"Usage: biasrepro {command}" in said.out


def test_every_help_fits_a_terminal_of_80_columns(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole: what does not fit is cut with an ellipsis, in the middle of an option that could not be copied then."""
    monkeypatch.setenv("COLUMNS", "80")
    commands: dict[str, Any] = getattr(typer.main.get_command(cli.app), "commands", {})
    assert {"train", "bench", "data"} <= set(commands)
    for words in [[], ["data", "fetch"], *([name] for name in commands)]:
        shown = say(*words, "--help").out
        assert max(map(len, shown.splitlines())) <= 80
        assert "…" not in shown, shown
        assert "[[" not in shown, shown


def test_a_group_without_a_command_shows_its_help_alone(say: Say) -> None:
    said = say("data")
    assert "fetch" in said.out
    assert (said.code, said.err) == (2, "")


def test_python_m_repro_is_the_command_too() -> None:
    done = biasrepro("--version")
    assert (done.returncode, done.stdout) == (0, f"biasrepro {repro.__version__}\n")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_are_given_their_completion(shell: str) -> None:
    variables = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = biasrepro("--show-completion", shell, env=variables)
    assert done.returncode == 0
    assert "_BIASREPRO_COMPLETE" in done.stdout


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("biasrepro sw", ["sweep"]),
        ("biasrepro sweep table1", ["table1", "table1_formula_2021", "table1_variants"]),
        ("biasrepro status de", ["demo"]),
        ("biasrepro train table2/squeezenet/b", ["table2/squeezenet/bias"]),
        ("biasrepro train nothing/", []),
        ("biasrepro plan table2_v", ["table2_variants"]),
        ("biasrepro table --format la", ["latex"]),
        ("biasrepro table --metric b", ["best"]),
        ("biasrepro figure cur", ["curves"]),
        ("biasrepro data fetch ci", ["cifar100"]),
        ("biasrepro bench resn", ["resnet18"]),
        ("biasrepro sweep table2 --rows shufflenetv2,sq", ["shufflenetv2,squeezenet"]),
        ("biasrepro sweep table2 --columns b", ["bias"]),
        ("biasrepro export --format p", ["parquet"]),
    ],
)
def test_completion_knows_commands_tables_and_cells(typed: str, offered: list[str]) -> None:
    words = typed.split()
    asked = {"_BIASREPRO_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(words) - 1)}
    done = biasrepro(env={**os.environ, **asked})
    assert done.stdout.split() == offered


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["swep"], "Did you mean 'sweep'?"),
        (["sweep"], "TABLE is required"),
        (["sweep", "tabel2"], "Did you mean 'table2'?"),
        (["sweep", "table2", "--rows", "squeezent"], "Did you mean 'squeezenet'?"),
        (["sweep", "table2", "--columns", "bais"], "Did you mean 'bias'?"),
        (["sweep", "table2", "--sedes", "2"], "--seeds"),
        (["sweep", "table2", "--seeds", "many"], "neither a number nor a list"),
        (["sweep", "table2", "--only", "faild"], "'failed'"),
        (["sweep", "table2", "--gpus", "zero"], "--gpus zero is not a list of numbers"),
        (["sweep", "table2", "--gpus", ","], "--gpus ',' is an empty list"),
        (["sweep", "table2", "--rows", ","], "--rows ',' is an empty list"),
        (["train", "--results", ""], "--results is empty"),  # else it would be the folder that we are in
        (["sweep", "demo", "--root="], "--root is empty"),
        (["verify", ""], "an argument is empty"),
        (["sweep", "demo", "--root", "/dev/null"], "this is not a folder"),
        (["sweep", "table2", "--jobs", "0"], "--jobs"),
        (["sweep", "table2", "--set", "epochs=2"], "'epochs=2' is not a setting"),
        (["sweep", "table2", "--set", "recipe.epoch=2"], "Did you mean 'epochs'?"),
        (["sweep", "table2", "--set", "recipe.epochs=0"], "greater than or equal to 1"),
        (["train", "table2/squeezenet/bais"], "Did you mean 'bias'?"),
        (["train", "table2/squeezent/bias"], "Did you mean 'squeezenet'?"),
        (["train", "tabel2"], "Did you mean 'table2'?"),
        (["train", "table2/squeezenet"], "A cell is table/row/column"),
        (["train", "nowhere.yaml"], "nowhere.yaml"),
        (["train", "--seed", "-1"], "--seed"),
        (["train", "--seed", "x"], "--seed"),
        (["train", "--set", "recipe.learning_rate=fast"], "--set recipe.learning_rate"),
        (["status", "tabel2"], "Did you mean 'table2'?"),
    ],
)
def test_wrong_use_is_one_message_and_exit_code_2(say: Say, tmp_path: Path, arguments: list[str], says: str) -> None:
    results = [] if arguments == ["swep"] else ["--results", str(tmp_path)]
    said = say(*arguments, *results)
    assert said.code == 2
    assert says in said.err
    assert said.err.startswith("error: ")
    assert "Traceback" not in said.err
    assert said.out == ""


def test_an_error_in_a_file_has_its_line(say: Say, own: Path) -> None:
    own.write_text(own.read_text().replace("epochs: 4", "epochs: four"))
    said = say("sweep", own)
    assert said.code == 2
    assert f"{own}:7:11" in said.err


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (UserError("what", where="where", hint="the hint"), 2, "error: where: what\n  the hint\n"),
        (RunFailure("[bold]what[/]"), 1, "error: [bold]what[/]\n"),
        (KeyboardInterrupt(), 130, None),
        (PermissionError(13, "Permission denied", "/a/file"), 2, None),
        (OSError(28, "No space left on device"), 2, f"error: No space left on device\n  {FREE_SPACE}\n"),
    ],
)
def test_errors_become_messages_and_exit_codes(
    say: Say, raise_from_cite: Callable[[BaseException], None], error: BaseException, code: int, says: str | None
) -> None:
    raise_from_cite(error)
    said = say("cite")
    assert said.code == code
    assert says is None or said.err == says


def test_an_unexpected_exception_is_called_a_bug_and_keeps_its_traceback(
    say: Say, raise_from_cite: Callable[[BaseException], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    raise_from_cite(RuntimeError("a defect"))
    said = say("cite")
    assert said.code == 1
    assert "error: RuntimeError: a defect" in said.err
    assert "Unexpected exception: a bug in biasrepro" in said.err
    (kept,) = tmp_path.iterdir()
    assert str(kept) in said.err
    assert "RuntimeError: a defect" in kept.read_text()
    assert "Traceback" in kept.read_text()


@pytest.mark.parametrize(("variables", "colored"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_errors_are_red_on_a_terminal_unless_no_color_is_set(variables: dict[str, str], colored: bool) -> None:
    err = on_a_terminal("train", "tabel2", variables=variables)
    assert "no experiment is called 'tabel2'" in err
    assert ("\x1b[1;31m" in err) == colored


def on_a_terminal(*arguments: str, variables: dict[str, str]) -> str:
    """What a command writes to a terminal."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    plain = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR", "COLORTERM")}
    process = subprocess.Popen(
        [sys.executable, "-m", "repro", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env={**plain, "TERM": "xterm-256color", **variables},
    )
    os.close(theirs)
    written = b""
    try:
        while chunk := os.read(ours, 4096):
            written += chunk
    except OSError:  # Linux says so when the other side is closed
        pass
    finally:
        os.close(ours)
        process.wait()
    return written.decode()


def test_a_reader_that_stops_reading_is_no_error() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys, time; from repro.cli import run; time.sleep(0.2); sys.exit(run(['cite']))"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() == 141


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_lead_nowhere_and_never_into_a_file(closed: str, tmp_path: Path) -> None:
    command = f"{shlex.quote(sys.executable)} -m repro table demo -o table.md --results . {closed}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False)
    assert [path.name for path in tmp_path.iterdir()] == ["table.md"]
    assert "Written" not in (tmp_path / "table.md").read_text()


def test_a_closed_standard_output_is_no_defect(tmp_path: Path) -> None:
    command = f"{shlex.quote(sys.executable)} -m repro cite >&-"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_folder_that_is_gone_is_said_so(say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    said = say("sweep", "demo", "--dry-run", "--no-measure")
    assert said.code == 2
    assert said.err == "error: the current folder no longer exists\n  Change to an existing folder: cd\n"


def test_bibtex_of_paper_and_software(say: Say) -> None:
    out = say("cite").out
    assert "pages     = {6556--6566}" in out
    for name in ("Abrahamyan", "Ziatchin", "Chen", "Deligiannis", "ICCV"):
        assert name in out
    assert f"version = {{{repro.__version__}}}" in out
    assert "url       = {https://arxiv.org/abs/2107.11170}" in out
    assert len(re.findall(r"^  year +=", out, re.MULTILINE)) == out.count("@") == 2
    assert out.count("{") == out.count("}")


def test_the_citation_of_the_software_has_the_address_that_the_package_declares(
    say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = Message()
    declared["Project-URL"] = "Repository, https://example.org/biasrepro"
    monkeypatch.setattr("repro.cli.cite.metadata.metadata", lambda name: declared)
    assert "  url     = {https://example.org/biasrepro},\n  version" in say("cite").out


def test_the_console_script_is_main() -> None:
    assert callable(cli.main)
