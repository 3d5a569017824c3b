"""A hundred experiment files that somebody could write by mistake or malice: each refused at its line, by its key."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

import repro.cli

RECIPE = "  learning_rate: 1e-1"
ROW = "  - {id: squeezenet, title: SqueezeNet, model: squeezenet"
COLUMN = "  - {id: bias, title: Bias loss, loss: bias"

# The line of tests/conftest.py's OWN that is replaced, by what, and the key or word that the message must hold.
IN_PLACE: list[tuple[int, str, str]] = [
    # names
    (1, "tabel: mine", "tabel"),
    (1, "table:", "table"),
    (1, "table: 3", "table"),
    (1, "table: [mine]", "table"),
    (1, "table: {a: b}", "table"),
    (1, "table: Mine", "table"),
    (1, "table: ../mine", "table"),
    (1, "table: mine/yours", "table"),
    (1, "table: .hidden", "table"),
    (1, "table: 'mi ne'", "table"),
    (1, f"table: {'m' * 65}", "table"),
    (1, "table: tablé", "table"),
    (1, "table: demo", "table"),
    (1, "table: true", "table"),
    (1, "table: 1e-3", "table"),
    (2, "label: ''", "label"),
    (2, f"label: {'x' * 401}", "label"),
    (2, 'label: "two\\nlines"', "label"),
    (2, "label: null", "label"),
    (2, "label: [Mine]", "label"),
    (3, "titel: A study", "titel"),
    (3, 'title: "\\x1b[31mred"', "\\x1b"),
    (3, 'title: "\\ud800"', "\\ud800"),
    (3, "title: 7", "title"),
    (4, "kind: studdy", "study"),
    (4, "kind: paper!", "kind"),
    (4, "kind: [study]", "kind"),
    # what YAML itself has in store
    (4, "kind: &a study", "anchors and aliases"),
    (4, "kind: *a", "anchors and aliases"),
    (4, "kind: !!python/object/apply:os.system [echo]", "tag"),
    (4, "kind: !!str study", "tag"),
    (4, "kind: !include /etc/passwd", "tag"),
    (4, "<<: {kind: study}", "<<"),
    (4, "kind: study\ntable: again", "occurs twice"),
    (4, "? [kind]\n: study", "a key must be a word"),
    (4, "kind: study\n---\ntable: two", "a second document"),
    (4, "kind: 'study", "own.yaml:4:7: not YAML: this quote is not closed"),
    (4, 'kind: "study', "own.yaml:4:7: not YAML: this quote is not closed"),
    (4, 'kind: "study\ntitle: "A title"', "own.yaml:4:7: not YAML: this quote is closed at line 5 only"),
    (4, "kind: [study", "own.yaml:4:7: not YAML: this bracket is not closed"),
    (4, "kind: {study", "own.yaml:4:7: not YAML: this brace is not closed"),
    (4, "kind: study: study", "not YAML"),
    (4, "\tkind: study", "not YAML"),
    (4, "kind: @study", "not YAML"),
    (4, "%YAML 1.1", "not YAML"),
    (4, "kind: " + "[" * 50 + "]" * 50, "nested deeper"),
    (4, "kind: " + "{a: " * 50 + "1" + "}" * 50, "nested deeper"),
    (4, 'kind: "\\U00110000"', "own.yaml:4:8: not YAML: the escape"),
    (4, "kind: \x00", "not allowed"),
    # the data set
    (5, "dataset: digits", "dataset"),
    (5, "dataset: {}", "name"),
    (5, "dataset: {name: digit}", "digits"),
    (5, "dataset: {name: cifar10}", "cifar100"),
    (5, "dataset: {name: digits, classes: 11}", "classes"),
    (5, "dataset: {name: digits, classes: 1}", "classes"),
    (5, "dataset: {name: digits, classes: -2}", "classes"),
    (5, "dataset: {name: digits, classes: 2.0}", "classes"),
    (5, "dataset: {name: digits, classes: true}", "classes"),
    (5, "dataset: {name: digits, classes: '2'}", "classes"),
    (5, "dataset: {name: digits, clases: 2}", "clases"),
    (5, "dataset: {name: digits, name: cifar100}", "occurs twice"),
    (5, "dataset: {name: digits, root: /etc}", "root"),
    (5, "dataset: [digits]", "dataset"),
    # the recipe
    (7, "  epochs: 0", "epochs"),
    (7, "  epochs: -4", "epochs"),
    (7, "  epochs: 4.0", "epochs"),
    (7, "  epochs: 1e3", "epochs"),
    (7, "  epochs: four", "epochs"),
    (7, "  epochs: true", "epochs"),
    (7, "  epochs: 010", "epochs"),
    (7, "  epochs: 0x10", "epochs"),
    (7, "  epochs: 1_000", "epochs"),
    (7, "  epochs: 1:30", "epochs"),
    (7, "  epochs: 100000", "epochs"),
    (7, f"  epochs: {'9' * 5000}", "epochs"),
    (7, "  epochs: .inf", "epochs"),
    (7, "  epoch: 4", "epochs"),
    (8, "  learning_rate: 0", "learning_rate"),
    (8, "  learning_rate: -0.1", "learning_rate"),
    (8, "  learning_rate: .nan", "learning_rate"),
    (8, "  learning_rate: .inf", "learning_rate"),
    (8, "  learning_rate: 1e999", "1e999"),
    (8, "  learning_rate: '0.1'", "learning_rate"),
    (8, "  learning_rate: 0,1", "learning_rate"),
    (8, "  learning_rate: [0.1]", "learning_rate"),
    (8, "  lr: 0.1", "lr"),
    (8, f"{RECIPE}\n  momentum: 1", "momentum"),
    (8, f"{RECIPE}\n  batch_size: 0", "batch_size"),
    (8, f"{RECIPE}\n  batch_size: 99999999", "batch_size"),
    (8, f"{RECIPE}\n  nesterov: yes", "nesterov"),
    (8, f"{RECIPE}\n  drop_last: 1", "drop_last"),
    (8, f"{RECIPE}\n  optimizer: adamw\n  momentum: 0.9", "momentum"),
    (8, f"{RECIPE}\n  betas: [0.9, 0.99]", "betas"),
    (8, f"{RECIPE}\n  label_smoothing: 1.0", "label_smoothing"),
    (8, f"{RECIPE}\n  weight_decay: 2", "weight_decay"),
    (8, f"{RECIPE}\n  warmup_epochs: 5", "warm-up"),
    (8, f"{RECIPE}\n  augmentation: {{rotation_degrees: 181}}", "rotation_degrees"),
    (8, f"{RECIPE}\n  augmentation: {{crop_padding_pixels: 33}}", "crop_padding_pixels"),
    (8, f"{RECIPE}\n  augmentation: {{flip: true}}", "flip"),
    (9, "  decay_epochs: 2", "decay_epochs"),
    (9, "  decay_epochs: [3, 2]", "decay_epochs"),
    (9, "  schedule: cosine\n  decay_epochs: [2]", "decay_epochs"),
    (9, "  decay_epochs: [2, 2]", "decay_epochs"),
    (9, "  decay_epochs: [0]", "decay_epochs"),
    (9, "  decay_epochs: [two]", "decay_epochs"),
    # columns and rows
    (10, "colums:", "colums"),
    (11, "  - {id: cross, title: CE loss, loss: ce}", "ce"),
    (12, "  - {id: ce, title: Bias loss, loss: bias}", "ce"),
    (12, "  - {id: bias, title: Bias loss, loss: biased}", "bias"),
    (12, "  - {id: bias, title: Bias loss}", "loss"),
    (12, f"{COLUMN}, weighting: {{alpha: 11}}}}", "alpha"),
    (12, f"{COLUMN}, weighting: {{beta: 1}}}}", "beta"),
    (12, f"{COLUMN}, weighting: {{normalization: local}}}}", "normalization"),
    (12, "  - bias", "columns"),
    (14, f"{ROW}, options: {{stem_stride: 3}}}}", "stem_stride"),
    (14, f"{ROW}, options: {{stem_stride: true}}}}", "stem_stride"),
    (14, f"{ROW}, published: {{top1_percent: {{ce: 101}}}}}}", "ce"),
    (14, f"{ROW}, published: {{top1_percent: {{cee: 90}}}}}}", "cee"),
    (14, f"{ROW}, execution: {{precision: fp16}}}}", "precision"),
    (14, "  - {id: ../../etc, title: SqueezeNet, model: squeezenet}", "id"),
    (14, "  - {id: squeezenet, title: SqueezeNet, model: squeezenett}", "squeezenet"),
    (14, "  []", "rows"),
]


@pytest.fixture
def status(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[bytes], tuple[int, str]]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(repro.cli, "app", typer.main.get_command(repro.cli.app))

    def say(raw: bytes) -> tuple[int, str]:
        Path("own.yaml").write_bytes(raw)
        code = repro.cli.run(["status", "own.yaml"])
        _, err = capfd.readouterr()
        assert "Traceback" not in err
        assert [path.name for path in tmp_path.iterdir()] == ["own.yaml"]
        return code, err

    return say


def test_each_crafted_file_is_refused_at_its_line_by_its_key(
    own_text: str, status: Callable[[bytes], tuple[int, str]], proved: Callable[[str], None]
) -> None:
    for number, replacement, word in IN_PLACE:
        lines = own_text.splitlines()
        lines[number - 1] = replacement
        code, err = status("\n".join(lines).encode())
        assert code == 2, (replacement, err)
        places = [int(line) for line in re.findall(r"own\.yaml:(\d+):\d+: ", err)]
        assert places, (replacement, err)
        last = number + replacement.count("\n")
        after_it = "missing" in err or "document start" in err  # what is not there has no place
        assert any(number <= line <= last for line in places) or after_it, (replacement, err)
        assert word in err, (replacement, err)
        assert len(err) < 2_000, replacement
    assert len(IN_PLACE) >= 100
    proved(f"crafted YAML: {len(IN_PLACE)} refused with file, line and key, exit 2, 0 tracebacks")


@pytest.mark.parametrize(
    ("raw", "place", "word"),
    [
        (b"", "own.yaml:1:1", "the file is empty"),
        (b"# only a comment\n", "own.yaml", "the file is empty"),
        (b"- a\n- b\n", "own.yaml:1:1", "mapping"),
        (b"just words", "own.yaml:1:1", "mapping"),
        (b"table: caf\xe9\n", "own.yaml:1:11", "not UTF-8"),
        (b"\xff\xfet\x00a\x00", "own.yaml:1:1", "not UTF-8"),
        (b"\x80\x05\x95", "own.yaml:1:1", "not UTF-8"),
        (b"\x7fELF\x02\x01", "own.yaml:1:1", "not"),
        (b"#" * 200_001, "own.yaml", "larger than 200,000 bytes"),
        (
            b"a: &a [x]\n" + b"".join(b"%c: &%c [*%c,*%c]\n" % (x + 1, x + 1, x, x) for x in b"abcdefgh"),
            "1:4",
            "anchors",
        ),
        (b"table: mine\r\nlabel: [\r\n", "own.yaml:", "not YAML"),
    ],
)
def test_what_is_no_experiment_at_all_is_said_so(
    raw: bytes, place: str, word: str, status: Callable[[bytes], tuple[int, str]]
) -> None:
    code, err = status(raw)
    assert code == 2
    assert place in err
    assert word in err
