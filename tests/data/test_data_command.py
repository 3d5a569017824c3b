"""``biasrepro data``: what a person reads."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from repro.cli.data import _progress, app
from repro.errors import DataError, UserError
from repro.experiment.catalog import DATASETS


@pytest.fixture
def root(small_cifar: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(DATASETS, "cifar100", small_cifar.facts)
    return tmp_path / "data"


def said(*arguments: object) -> str:
    """What a command prints; an error passes through to the test."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False).output


def test_info_lists_all_with_what_is_here(root: Path) -> None:
    output = said("info", "--root", root)
    lines = [line.split() for line in output.splitlines()]
    assert lines[2] == ["tiny_imagenet", "200", "64x64", "100,000", "+", "10,000", "248.1", "MB", "no"]
    assert "included in biasrepro" in output


def test_fetch_then_verify_then_info(root: Path, small_cifar: Any, tmp_path: Path) -> None:
    assert f"biasrepro data fetch cifar100 --root {root}" in said("info", "cifar100", "--root", root)
    archive = tmp_path / "local.tar.gz"
    archive.write_bytes(small_cifar.binary_archive)
    fetched = said("fetch", "cifar100", "--root", root, "--from", archive)
    assert "CIFAR-100 is ready: 20 training and 8 test images of 32x32 pixels in 4 classes" in fetched
    assert "decoded from local.tar.gz" in fetched
    assert f"Next: biasrepro sweep table2 --dry-run --root {root}" in fetched
    verified = said("verify", "cifar100", "--root", root)
    assert "decoded-v1.bin: whole" in verified
    described = said("info", "cifar100", "--root", root)
    assert "here: yes" in described
    assert "mean 0." in described
    assert verified.split("fingerprint ")[1].split()[0] == described.split("fingerprint ")[1].split()[0]


def test_damage_is_seen_by_verify_and_an_undecoded_archive_by_info(root: Path, small_cifar: Any) -> None:
    (root / "cifar100").mkdir(parents=True)
    (root / "cifar100" / "cifar-100-binary.tar.gz").write_bytes(small_cifar.binary_archive)
    assert "not decoded yet" in said("info", "--root", root)
    said("fetch", "cifar100", "--root", root)
    assert "cifar-100-binary.tar.gz, MD5" in said("verify", "cifar100", "--root", root)
    path = root / "cifar100" / "decoded-v1.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="damaged"):
        said("verify", "cifar100", "--root", root)
    assert "here: damaged" in said("info", "cifar100", "--root", root)


def test_verify_calls_an_archive_known_only_by_its_md5(root: Path, small_cifar: Any, tmp_path: Path) -> None:
    copy = tmp_path / "local.tar.gz"
    copy.write_bytes(small_cifar.binary_archive)
    said("fetch", "cifar100", "--root", root, "--from", copy)
    archive = root / "cifar100" / "cifar-100-binary.tar.gz"
    archive.write_bytes(b"junk junk")
    verified = CliRunner().invoke(app, ["verify", "cifar100", "--root", str(root)])
    assert verified.exit_code == 1
    assert "decoded-v1.bin: whole" in verified.stdout
    assert f"{archive}: cifar-100-binary.tar.gz, MD5 " in verified.stderr
    assert ", not a published archive, and not what the images were decoded from\n  Delete it or" in verified.stderr
    assert "accepted" not in verified.output
    archive.unlink()
    assert "whole" in said("verify", "cifar100", "--root", root)
    archive.write_bytes(small_cifar.python_archive)
    assert said("verify", "cifar100", "--root", root).count(", as published") == 2


def test_verify_knows_the_copy_that_was_accepted_when_it_was_decoded(
    root: Path, tiny_members: dict[str, bytes], tiny_facts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DATASETS, "tiny_imagenet", tiny_facts)
    archive = root / "tiny_imagenet" / "tiny-imagenet-200.zip"
    archive.parent.mkdir(parents=True)
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.comment = b"another MD5 than the published one"
        for member, content in tiny_members.items():
            zipped.writestr(member, content)
    said("fetch", "tiny_imagenet", "--root", root)
    assert "another copy, from which the images were decoded" in said("verify", "tiny_imagenet", "--root", root)
    archive.write_bytes(archive.read_bytes()[:-1])
    verified = CliRunner().invoke(app, ["verify", "tiny_imagenet", "--root", str(root)])
    assert verified.exit_code == 1
    assert "not a published archive, and not what the images were decoded from" in verified.stderr
    archive.unlink()
    archive.with_suffix("").mkdir()
    assert "folder tiny-imagenet-200, not compared: it has no" in said("verify", "tiny_imagenet", "--root", root)


def test_the_bundled_digits_need_nothing(root: Path) -> None:
    for command in ("fetch", "verify"):
        assert "included in biasrepro" in said(command, "digits", "--root", root)
    assert "yes, included" in said("info", "digits", "--root", root)
    assert not root.exists()


@pytest.mark.parametrize("command", ["fetch", "verify", "info"])
def test_a_data_set_of_a_plugin_needs_no_fetching(command: str, root: Path, own: Path, own_text: str) -> None:
    own.write_text(own_text.replace("{name: digits}", "{name: my_study/stripes}"))
    for name in (str(own), "my_study/stripes"):
        with pytest.raises(UserError, match="the data set my_study/stripes comes from a plugin") as refused:
            said(command, name, "--root", root)
        assert refused.value.hint is not None
        assert refused.value.hint.startswith("There is nothing to fetch, decode or verify: my_study.py gives its")


@pytest.mark.parametrize("command", ["fetch", "verify", "info"])
def test_an_unknown_name_is_one_message(command: str, root: Path) -> None:
    with pytest.raises(UserError, match="Did you mean 'tiny_imagenet'"):
        said(command, "tinyimagenet", "--root", root)


def test_a_file_is_not_taken_for_a_data_set_of_a_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    archive = tmp_path / "data" / "tiny-imagenet-200.zip"
    archive.parent.mkdir()
    archive.touch()
    with pytest.raises(UserError, match="a file or a folder, not the name of a data set") as refused:
        said("fetch", "data/tiny-imagenet-200.zip", "--root", tmp_path / "root")
    assert str(refused.value.hint).endswith("biasrepro data fetch NAME --from data/tiny-imagenet-200.zip")


def test_progress_without_a_total_is_its_name_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with _progress() as report:
        report("waiting for another process", 0, 0)
        report("decoding", 5, 10)
    assert capsys.readouterr().err == "waiting for another process\ndecoding 50 %: 5 of 10 images\n"


def test_files_without_from_and_an_address_beside_files_are_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unexpected argument: a\.parquet\n.*--from FILE"):
        said("fetch", "cifar100", "a.parquet")
    with pytest.raises(UserError, match="--url has no effect with --from"):
        said("fetch", "cifar100", "--url", "https://example.org/x", "--from", tmp_path)
    with pytest.raises(DataError, match="no such file or folder"):
        said("fetch", "cifar100", "--from", tmp_path, tmp_path / "test.parquet")
    with pytest.raises(DataError, match=r"ftp://example\.org/x is not an http or https address"):
        said("fetch", "cifar100", "--root", root, "--url", "ftp://example.org/x")
    with pytest.raises(UserError, match="--url has no effect: UCI digits"):
        said("fetch", "digits", "--url", "https://example.org/x")
