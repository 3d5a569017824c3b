"""The hash of a plugin is of the code that runs: of every file beside it that it imports, in whichever way."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from repro.engine.code_hash import code_hash, forget_files
from repro.errors import ConfigError
from repro.experiment.plugins import PLUGINS
from repro.plugin_files import load_plugin, load_plugins

pytestmark = pytest.mark.usefixtures("no_plugin_stays")

LOSS = "from repro.api import loss\n\n\n@loss\ndef flat(): ...\n"


def write(folder: Path, **files: str) -> Path:
    """Writes modules into ``folder``, in which ``__`` separates the folders of a name; returns the first."""
    paths = [folder / f"{name.replace('__', '/')}.py" for name in files]
    for path, text in zip(paths, files.values(), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return paths[0]


@pytest.mark.parametrize(
    ("imports", "helper"),
    [
        ({"study": "import beside\n"}, LOSS),
        ({"study": "import beside as unused\n" + LOSS}, "width = 8\n"),
        ({"study": "from beside import *\n" + LOSS}, "width = 8\n"),
        (
            {"study": "from nested import build\n" + LOSS, "nested": "from beside import *\ndef build(): ...\n"},
            "n = 8\n",
        ),
        ({"study": LOSS + "def later():\n    import beside\n"}, "width = 8\n"),
        ({"study": "TYPE_CHECKING = 0\nif TYPE_CHECKING: ...\nelse: import beside\n" + LOSS}, "width = 8\n"),
    ],
    ids=["registers", "unused", "star", "star in a helper", "in a function", "unless type checking"],
)
def test_a_file_beside_it_counts_however_it_is_imported(imports: dict[str, str], helper: str, tmp_path: Path) -> None:
    study = write(tmp_path, **imports, beside=helper)
    first = load_plugin(study)
    assert tmp_path / "beside.py" in first.files
    (tmp_path / "beside.py").write_text(f"{helper}\nmore = 1\n")
    sys.modules.pop("beside", None)
    assert load_plugin(study).sha256 != first.sha256


def test_what_only_a_type_checker_imports_does_not_count(tmp_path: Path) -> None:
    head = "from __future__ import annotations\nimport typing\nif typing.TYPE_CHECKING:\n    from kinds import Kind\n"
    assert load_plugin(write(tmp_path, study=head + LOSS, kinds="1 / 0\n")).files == (tmp_path / "study.py",)


def test_what_runs_unless_types_are_checked_counts(tmp_path: Path) -> None:
    study = write(tmp_path, study=f"{LOSS}TYPE_CHECKING = False\nif TYPE_CHECKING:\n    n = 0\nelse:\n    n = 1\n")
    first = load_plugin(study)
    study.write_text(study.read_text().replace("n = 1", "n = 2"))
    assert load_plugin(study).sha256 != first.sha256


def test_a_star_import_of_the_package_is_in_the_code_of_the_run(tmp_path: Path) -> None:
    study = write(tmp_path, study=LOSS)
    load_plugin(study)
    before = code_hash("squeezenet", "study/flat", "digits")
    study.write_text("from repro.losses import *\n" + LOSS)
    forget_files()
    assert code_hash("squeezenet", "study/flat", "digits") != before


@pytest.mark.parametrize(
    "head",
    ["import src.models.net\n", "from src.models.net import width\n", "from src.models.net import width as w\nn = w\n"],
)
def test_a_folder_of_folders_is_refused(head: str, tmp_path: Path) -> None:
    study = write(tmp_path, study=head + LOSS, src__models__net="width = 8\n")
    with pytest.raises(ConfigError, match="it imports the folder src, whose files would not be part"):
        load_plugin(study)


def test_a_folder_that_is_not_what_is_imported_is_not_refused(tmp_path: Path) -> None:
    study = write(tmp_path, study="import numpy\n" + LOSS, numpy__runs__files__copy="1 / 0\n")
    assert load_plugin(study).files == (study,)


@pytest.mark.parametrize("lazy", [(), ("one",), ("two",), ("one", "two")], ids=str)
def test_two_plugins_with_helpers_of_one_name_are_refused(lazy: tuple[str, ...], tmp_path: Path) -> None:
    for name, folder in (("one", "x"), ("two", "y")):
        line = "def later():\n    import beside\n" if name in lazy else "import beside\n"
        write(tmp_path / folder, **{name: line + LOSS, "beside": "width = 8\n"})
    load_plugins([tmp_path / "x" / "one.py"])
    with pytest.raises(ConfigError) as refused:
        load_plugins([tmp_path / "x" / "one.py", tmp_path / "y" / "two.py"])
    used, shadowed = tmp_path / "x" / "beside.py", tmp_path / "y" / "beside.py"
    assert str(refused.value) == (
        f"{tmp_path}/y/two.py: `import beside` runs {used}, not the file beside the plugin\n"
        f"  Rename {shadowed}, and its name where it is imported."
    )


@pytest.mark.parametrize(
    ("helper", "runs"), [("numpy", "numpy/__init__.py"), ("sys", "a module of Python itself"), ("wave", "wave.py")]
)
def test_a_helper_that_another_module_hides_is_refused(helper: str, runs: str, tmp_path: Path) -> None:
    study = write(tmp_path, study=f"def later():\n    import {helper}\n{LOSS}", **{helper: "width = 8\n"})
    with pytest.raises(ConfigError, match=rf"study.py: `import {helper}` runs .*{runs}, not the file beside"):
        load_plugin(study)


def test_an_import_that_cannot_be_followed_is_refused(tmp_path: Path) -> None:
    lines = "from importlib import import_module\nimport_module('beside')\n"
    study = write(tmp_path, study=lines + LOSS, beside="width = 8\n")
    with pytest.raises(ConfigError, match=r"study.py: it imports .*beside.py, which would not be part of the run's"):
        load_plugin(study)


def test_a_helper_may_be_shared_by_two_plugins(tmp_path: Path) -> None:
    write(tmp_path, one="import beside\n" + LOSS, two="import beside\n" + LOSS, beside="width = 8\n")
    load_plugins([tmp_path / "one.py", tmp_path / "two.py"])
    assert PLUGINS["one"].files[1:] == PLUGINS["two"].files[1:] == (tmp_path / "beside.py",)


def test_a_helper_may_take_its_own_place(tmp_path: Path) -> None:
    helper = "import sys\nsys.modules[__name__] = 3\n"
    load_plugin(write(tmp_path, study="import beside\n" + LOSS, beside=helper))
    del sys.modules["beside"]
