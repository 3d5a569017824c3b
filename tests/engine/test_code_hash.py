"""The code hash follows what determines a run's numbers, and nothing else: held on edited copies of the package."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from repro.engine import code_hash as module
from repro.engine.code_hash import PACKAGE, ROOTS, code_hash, hash_of, shared_code_hash
from repro.experiment.catalog import LOSSES, NETWORKS, Loss, dataset_facts

Edit = Callable[[str, str, str], None]
PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
OTHER_PYTHONS = sorted(PYENV.glob("3.1[1-9].*/bin/python3"))

# What: a file, a text in it, and what takes its place.
IMMATERIAL = {
    "a comment": ("engine/step.py", "    with autocast:\n", "    # Autocast, where it is on.\n    with autocast:\n"),
    "a docstring": ("engine/schedule.py", '"""The learning rate of ``step``', '"""Learning rate of ``step``'),
    "a module's docstring": ("models/densenet.py", '"""DenseNet-100', '"""The DenseNet-100'),
    "layout": ("losses.py", "low, high = torch.aminmax(spread_over)", "(low, high) = torch.aminmax( spread_over )"),
    "an annotation": ("engine/step.py", "images: Tensor,", "images: torch.Tensor,"),
    "an error": ("losses.py", "have no variance within a sample", "lack a variance"),
    "a hint": ("engine/training.py", "Delete the checkpoints to start over", "Remove the checkpoints to start over"),
    "a progress message": ("engine/training.py", "resumed at epoch", "continued at epoch"),
    "reports": ("engine/reporting.py", "REPORT_SECONDS = 0.25", "REPORT_SECONDS = 0.5"),
    "provenance": ("engine/provenance.py", '"scipy")', '"scipy", "rich")'),
    "another network": ("models/squeezenet.py", "kernel_size=1)", "kernel_size=3)"),
    "another network of the same file": ("models/densenet.py", "_densenet100(24, num", "_densenet100(25, num"),
    "another loss": ("losses.py", "return functional.cross_entropy(", "return 2 * functional.cross_entropy("),
    "another decoder": ("data/tiny_imagenet.py", "import annotations", "import annotations\nSIZE = 64"),
    "a loss more": ("losses.py", "class BiasLoss(", "class Focal(nn.Module):\n    gamma = 2\n\n\nclass BiasLoss("),
    "a network more": ("models/densenet.py", "class DenseNet(", "def densenet9():\n    return 9\n\n\nclass DenseNet("),
    "another part": ("tables/layout.py", "import annotations", "import annotations\nWIDTH = 1"),
}
MATERIAL = {
    "the network": ("models/densenet.py", "int(channels * compression)", "int(channels + compression)"),
    "an argument of the network": ("models/densenet.py", "_densenet100(12, num", "_densenet100(13, num"),
    "what a name stands for": ("models/densenet.py", "import torch.nn.functional as F", "import torch.special as F"),
    "the loss": ("losses.py", "- self.beta)", "+ self.beta)"),
    "a helper of the loss": ("losses.py", "activations.shape[1] - 1", "activations.shape[1]"),
    "the mean of the losses": ("engine/step.py", "losses.mean()", "losses.sum()"),
    "the optimizer": ("engine/optimizer.py", "nesterov=recipe.nesterov", "nesterov=False"),
    "the schedule": ("engine/schedule.py", "complete >= milestone", "complete > milestone"),
    "augmentation": ("data/augment.py", "< 0.5", "< 0.25"),
    "the order of images": ("engine/batches.py", 'self.seed, "order", epoch', 'self.seed, "order", 1'),
    "seeds": ("engine/randomness.py", '"/".join', '"-".join'),
    "evaluation": ("engine/evaluate.py", "100 * top1", "99 * top1"),
    "the loop": ("engine/training.py", "state.step = step + 1", "state.step = step + 2"),
    "the decoder": ("data/digits.py", "_GREATEST_VALUE = 16", "_GREATEST_VALUE = 15"),
    "the mean of the images": ("data/decoded.py", "total / (255 * count)", "total / (256 * count)"),
    "what is recorded": ("engine/conclusion.py", "history[-1].test_top1_percent", "history[0].test_top1_percent"),
    "device settings": ("engine/device.py", "benchmark = tuned and", "benchmark = tuned or"),
    "how networks are built": ("models/__init__.py", "LARGEST_WITH_FULL_STEM = 32", "LARGEST_WITH_FULL_STEM = 64"),
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    shutil.copytree(PACKAGE, tmp_path / "repro", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "repro"


@pytest.fixture
def edit(package: Path) -> Edit:
    """Replaces a text in a file of the copied package."""

    def replace(file: str, before: str, after: str) -> None:
        text = (package / file).read_text()
        assert before in text, f"{file}: {before}"
        (package / file).write_text(text.replace(before, after))
        module._parsed.cache_clear()

    return replace


def hash_in(package: Path) -> str:
    """The hash of a run by the code in a copy of the package."""
    entries = (NETWORKS["densenet100_k12"].builder, LOSSES["bias"].builder, dataset_facts("digits").decoder)
    return hash_of(package, (*ROOTS, *entries))


@pytest.mark.parametrize("what", IMMATERIAL)
def test_what_changes_no_number_changes_no_hash(what: str, package: Path, edit: Edit) -> None:
    before = hash_in(package)
    edit(*IMMATERIAL[what])
    assert hash_in(package) == before


@pytest.mark.parametrize("what", MATERIAL)
def test_what_may_change_numbers_changes_the_hash(what: str, package: Path, edit: Edit) -> None:
    before = hash_in(package)
    edit(*MATERIAL[what])
    assert hash_in(package) != before


def test_other_words_in_every_docstring_and_comment_and_crlf_change_no_hash(package: Path) -> None:
    before = hash_in(package)
    reworded = 0
    for path in package.rglob("*.py"):
        lines = path.read_text().splitlines()
        for node in ast.walk(ast.parse("\n".join(lines))):
            if (
                isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ):
                first, last = node.lineno - 1, node.end_lineno
                words = f'{" " * node.col_offset}"""Other words."""  # and a comment'
                lines[first:last] = [words] + ["" for _ in lines[first + 1 : last]]
                reworded += 1
        path.write_text("\n".join(["# A comment.", *lines]), newline="\r\n")
    module._parsed.cache_clear()
    assert reworded > 500
    assert hash_in(package) == before


def test_every_arithmetic_operator_of_what_is_reached_counts(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = set()
    read = module._Code.read

    def noting(self: module._Code, *place: str) -> tuple[str, list[module.Place]]:
        places.add(place)
        return read(self, *place)

    monkeypatch.setattr(module._Code, "read", noting)
    hash_in(package)
    changed = 0
    for name in sorted({name for name, _ in places}):
        path = module._Code(package.parent)._file(name)
        assert path is not None
        for statement in ast.parse(path.read_text()).body:
            if (name, "".join(module._defined(statement)[:1])) not in places:
                continue
            before = module._text([statement])
            raised = [node for node in ast.walk(statement) if isinstance(node, ast.Raise)]
            in_errors = {id(part) for node in raised for part in ast.walk(node)}
            for node in ast.walk(statement):
                if isinstance(node, ast.BinOp) and not isinstance(node.op, ast.BitOr) and id(node) not in in_errors:
                    operator = node.op
                    node.op = ast.Sub() if isinstance(operator, ast.Add) else ast.Add()
                    assert module._text([statement]) != before, f"{path}:{node.lineno}"
                    node.op = operator
                    changed += 1
    assert changed > 100


def test_networks_losses_and_data_sets_have_hashes_of_their_own() -> None:
    runs = [
        (model, loss, dataset)
        for model in ("densenet100_k12", "densenet100_k24", "squeezenet")
        for loss in LOSSES
        for dataset in ("digits", "cifar100")
    ]
    hashes = {code_hash(*run) for run in runs}
    assert len(hashes) == len(runs)
    assert all(len(digest) == 64 and int(digest, 16) for digest in hashes)


def test_what_cannot_be_followed_by_name_includes_all(package: Path, edit: Edit) -> None:
    edit("engine/schedule.py", "    complete = epoch - 1", "    import_module(recipe)\n    complete = epoch - 1")
    before = hash_in(package)
    edit("models/squeezenet.py", "kernel_size=1)", "kernel_size=3)")
    assert hash_in(package) != before


def test_a_users_own_file_is_hashed_with_what_lies_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, beside = tmp_path / "own_loss_of_a_test.py", tmp_path / "beside_of_a_test.py"
    own.write_text("import beside_of_a_test\nUNIT = 1\ndef build():\n    return beside_of_a_test.FACTOR\n")
    beside.write_text("FACTOR = 2\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(LOSSES, "own", Loss("own", "own_loss_of_a_test:build"))

    def hash_now() -> str:
        module._parsed.cache_clear()
        code_hash.cache_clear()
        return code_hash("squeezenet", "own", "digits")

    first = hash_now()
    own.write_text("# A comment.\n" + own.read_text())
    assert hash_now() == first
    own.write_text(own.read_text().replace("UNIT = 1", "UNIT = 3"))
    second = hash_now()
    beside.write_text("FACTOR = 4\n")
    assert len({first, second, hash_now()}) == 3


def test_arguments_of_a_loss_count(monkeypatch: pytest.MonkeyPatch) -> None:
    before = code_hash("squeezenet", "bias", "digits")
    code_hash.cache_clear()
    monkeypatch.setitem(LOSSES, "bias", Loss("bias", LOSSES["bias"].builder, {"measures": ("mean",)}, weighted=True))
    assert code_hash("squeezenet", "bias", "digits") != before
    code_hash.cache_clear()


@pytest.mark.parametrize(
    ("file", "before", "after", "changes"),
    [
        ("models/squeezenet.py", "kernel_size=1)", "kernel_size=3)", False),
        ("losses.py", "- self.beta)", "+ self.beta)", False),
        ("data/digits.py", "_GREATEST_VALUE = 16", "_GREATEST_VALUE = 15", False),
        ("engine/step.py", "losses.mean()", "losses.sum()", True),
    ],
)
def test_the_shared_hash_is_of_what_every_run_uses(
    package: Path, edit: Edit, file: str, before: str, after: str, changes: bool
) -> None:
    assert hash_of(package, ROOTS) == shared_code_hash()
    edit(file, before, after)
    assert (hash_of(package, ROOTS) != shared_code_hash()) == changes


PROGRAM = """
import sys
from repro.engine.code_hash import code_hash
from repro.experiment.catalog import LOSSES, NETWORKS
hashes = [code_hash(network, "bias", "tiny_imagenet") for network in NETWORKS]
hashes += [code_hash("squeezenet", loss, data) for loss in LOSSES for data in ("digits", "cifar100")]
print(*hashes, "torch" in sys.modules)
"""


@pytest.mark.parametrize("python", [Path(sys.executable), *OTHER_PYTHONS], ids=lambda path: path.parts[-3])
def test_every_python_gives_the_same_hash_and_imports_no_torch(python: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([python, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    expected = [code_hash(network, "bias", "tiny_imagenet") for network in NETWORKS]
    expected += [code_hash("squeezenet", loss, data) for loss in LOSSES for data in ("digits", "cifar100")]
    assert done.stdout.split() == [*expected, "False"]
