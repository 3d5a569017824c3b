from __future__ import annotations

import os
from pathlib import Path

import pytest

from repro.errors import ConfigError
from repro.experiment.strict_yaml import MAX_BYTES, MAX_DEPTH, parse, quoted, read_text


def value_of(scalar: str) -> object:
    return parse(f"key: {scalar}", source="a.yaml").data["key"]


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text, source="a.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        ("1e-3", 0.001),
        ("5E-4", 0.0005),
        ("1e+2", 100.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("-0", 0),
        ("+7", 7),
        ("0", 0),
        ("null", None),
        ("~", None),
        ("", None),
        ("true", True),
        ("false", False),
    ],
)
def test_numbers_and_words_are_what_they_look_like(scalar: str, value: object) -> None:
    assert value_of(scalar) == value
    assert type(value_of(scalar)) is type(value)


LEFT_AS_TEXT = (
    *("010", "0x10", "0o7", "1_000", "1:30", "2021-10-11", "yes", "no", "on", "off", "True", "NULL"),
    *(".inf", ".nan", "inf", "NaN", "1e", "e5", ".", "+", "1e5e5", "--1", "9" * 5000, "1" * 41, "'1'", '"true"'),
)


@pytest.mark.parametrize("scalar", LEFT_AS_TEXT)
def test_what_only_some_parsers_take_for_a_number_or_a_word_stays_text(scalar: str) -> None:
    assert value_of(scalar) == scalar.strip("'\"")


def test_minus_zero_is_zero() -> None:
    assert str(value_of("-0.0")) == "0.0"


def test_a_number_beyond_floats_is_refused_at_its_place() -> None:
    assert refusal("a: 1\nkey: 1e999") == "a.yaml:2:6: 1e999 is too large for a number"


def test_every_value_and_key_has_its_place() -> None:
    document = parse("a: 1\nrows:\n  - {id: x, loss: ce}\n  -\n    id: y\n", source="a.yaml")
    assert document.data == {"a": 1, "rows": [{"id": "x", "loss": "ce"}, {"id": "y"}]}
    assert document.locate(("a",)) == "a.yaml:1:4"
    assert document.locate(("a",), key=True) == "a.yaml:1:1"
    assert document.locate(("rows", 0, "loss")) == "a.yaml:3:19"
    assert document.locate(("rows", 0, "loss"), key=True) == "a.yaml:3:13"
    assert document.locate(("rows", 1, "id")) == "a.yaml:5:9"
    assert document.locate(("rows", 1, "missing")) == document.locate(("rows", 1))
    assert document.locate(("rows", 7, "id")) == document.locate(("rows",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "a.yaml:3:1: key 'a' occurs twice; the first is at line 1, column 1"),
        ("r: {x: 1, x: 1}", "a.yaml:1:11: key 'x' occurs twice; the first is at line 1, column 5"),
        ("a: &name 1", "a.yaml:1:4: anchors and aliases are not allowed"),
        ("a: *name", "a.yaml:1:4: anchors and aliases are not allowed"),
        ("a: !!python/object:os.system x", "a.yaml:1:4: the tag 'tag:yaml.org,2002:python/object:os.system'"),
        ("a: !!float 1", "a.yaml:1:4: the tag 'tag:yaml.org,2002:float' is not allowed"),
        ("a: 1\n---\nb: 2", "a.yaml:2:1: a second document begins here"),
        ("? [1, 2]\n: 3", "a.yaml:1:3: a key must be a word"),
        ("? {a: 1}\n: 3", "a.yaml:1:3: a key must be a word"),
        ("a:\n\t- 1", "a.yaml:2:1: not YAML: found character '\\t' that cannot start any token"),
        ("a: [1, 2", "a.yaml:1:9: not YAML: expected ',' or ']', but got '<stream end>'"),
        ("a: b: c", "a.yaml:1:5: not YAML: mapping values are not allowed here"),
        ("a: 1\nb: \x00", "a.yaml:2:4: not YAML: the character '\\x00' is not allowed"),
        ('a: "\\x1b[31m"', "a.yaml:1:4: the character '\\x1b' is not allowed"),
        ('"\\ud800": 1', "a.yaml:1:1: the character '\\ud800' is not allowed"),
        ('"a\\tb": 1', "a.yaml:1:1: the key 'a\\tb' is not one line of text"),
        ("[" * (MAX_DEPTH + 1), f"a.yaml:1:{MAX_DEPTH + 1}: nested deeper than {MAX_DEPTH} levels"),
        ('a: "\\U7fffffff"', "a.yaml:1:5: not YAML: the escape"),
    ],
)
def test_whatever_is_not_plain_data_is_refused_at_its_place(text: str, message: str) -> None:
    assert refusal(text).startswith(message)


def test_an_alias_bomb_ends_at_its_first_anchor() -> None:
    bomb = "a: &a [x]\n" + "\n".join(f"{b}: &{b} [*{a}, *{a}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    assert refusal(bomb).startswith("a.yaml:1:4: anchors and aliases are not allowed")


def test_an_empty_document_is_nothing() -> None:
    assert parse("", source="a.yaml").data is None
    assert parse("# only a comment\n", source="a.yaml").data is None


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_line_ends_and_a_byte_order_mark_change_nothing(tmp_path: Path, newline: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + newline.join(["# comment", "a: 1", "b: [2, 3]"]).encode())
    document = parse(read_text(file), source=str(file))
    assert document.data == {"a": 1, "b": [2, 3]}
    assert document.locate(("b",)).endswith("a.yaml:3:4")


def test_text_that_is_not_utf_8_is_refused_at_its_byte(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(b"a: 1\nb: caf\xe9")
    with pytest.raises(ConfigError) as caught:
        read_text(file)
    assert (caught.value.where, caught.value.what) == (f"{file}:2:7", "not UTF-8: byte 0xe9")


def test_a_large_file_is_refused_unread(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(b"#" * MAX_BYTES)
    assert len(read_text(file)) == MAX_BYTES
    file.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(ConfigError, match="larger than 200,000 bytes"):
        read_text(file)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (".", "this is a folder"),
        ("absent.yaml", "cannot be read: No such file"),
        ("a\0b.yaml", "cannot be read: .*null byte"),
        ("x" * 300, "cannot be read: .*name too long"),
    ],
)
def test_what_is_no_readable_file_is_said_so(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        read_text(tmp_path / name)


def test_a_file_that_is_not_there_may_be_another_that_is(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").touch()
    with pytest.raises(ConfigError) as refused:
        read_text(tmp_path / "onw.yaml")
    assert refused.value.hint == f"Did you mean '{tmp_path / 'own.yaml'}'?"
    with pytest.raises(ConfigError) as refused:
        read_text(tmp_path / "absent" / "onw.yaml")
    assert "table2" in str(refused.value.hint)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.yaml")
    with pytest.raises(ConfigError, match="this is a pipe or a device"):
        read_text(tmp_path / "fifo.yaml")


def test_a_file_without_permission_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ConfigError, match="cannot be read: Permission denied"):
        read_text(tmp_path / "a.yaml")


def test_a_value_of_the_command_line_reads_as_in_a_file() -> None:
    assert parse("[4, 8]", source="--set a").data == [4, 8]
    assert parse(" 1e-3 ", source="--set a").data == 0.001
    with pytest.raises(ConfigError, match="--set a:1:2: not YAML"):
        parse("[", source="--set a")


def test_a_quoted_name_is_one_short_line() -> None:
    assert quoted("x") == "'x'"
    assert quoted("a\nb") == "'a\\nb'"
    assert len(quoted("x" * 10_000)) < 70
