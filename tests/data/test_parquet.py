"""Parquet files as the Hugging Face hub has them: the images of the archive, or one message."""

from __future__ import annotations

import builtins
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from repro.data import published_content
from repro.data.decoded import DecodedImages, Images, PixelSums
from repro.data.fetch import fetch
from repro.data.parquet import decode_parquet
from repro.data.prepare import cache_path, verify
from repro.data.published_content import ContentHash, Moments, content_sha256, difference_from_published
from repro.data.tiny_imagenet import decode_tiny_imagenet
from repro.errors import DataError
from repro.experiment.catalog import DATASETS, DatasetFacts

pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
from pyarrow import parquet  # noqa: E402 - only where pyarrow is

HUB_NAMES = ("apple", "aquarium_fish", "baby", "bear")


def encoded(image: Images, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(buffer, form)
    return buffer.getvalue()


def write(path: Path, contents: list[bytes], labels: list[int], **changed: Any) -> Path:
    """A file of the hub: images as structs, labels, and the class names in the schema's metadata."""
    image, label = changed.get("image", "img"), changed.get("label", "fine_label")
    columns = {
        image: [{"bytes": content, "path": None} for content in contents],
        label: labels,
        "coarse_label": [0] * len(labels),
    }
    table = pyarrow.table(columns)
    names = changed.get("names", HUB_NAMES)
    if names is not None:
        features = {image: {"_type": "Image"}, label: {"names": list(names), "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(exist_ok=True)
    parquet.write_table(table, path, row_group_size=7)
    return path


@pytest.fixture
def facts(small_cifar: Any, monkeypatch: pytest.MonkeyPatch) -> DatasetFacts:
    """The small CIFAR-100, whose mean and standard deviation are known."""
    images = small_cifar.images
    splits = ((images.train_images, images.train_labels), (images.test_images, images.test_labels))
    moments = tuple(Moments(*PixelSums.of(*split, 4).mean_and_std(4)) for split in splits)
    monkeypatch.setitem(published_content.PUBLISHED, "cifar100", moments)
    return small_cifar.facts


@pytest.fixture
def hub(small_cifar: Any, tmp_path: Path) -> Path:
    """A folder with the small CIFAR-100 as the hub has it, its training images in two files."""
    images = small_cifar.images
    contents, labels = [encoded(image) for image in images.train_images], images.train_labels.tolist()
    write(tmp_path / "hub" / "train-00000-of-00002.parquet", contents[:11], labels[:11])
    write(tmp_path / "hub" / "train-00001-of-00002.parquet", contents[11:], labels[11:])
    tests = [encoded(image) for image in images.test_images]
    write(tmp_path / "hub" / "test-00000-of-00001.parquet", tests, images.test_labels.tolist())
    return tmp_path / "hub"


def assert_same(found: DecodedImages, expected: DecodedImages) -> None:
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        assert np.array_equal(getattr(found, name), getattr(expected, name)), name


@pytest.mark.parametrize("given", ["folder", "files"])
def test_the_hubs_files_give_the_images_of_the_archive(
    given: str, hub: Path, facts: DatasetFacts, small_cifar: Any, tmp_path: Path
) -> None:
    sources = [hub] if given == "folder" else sorted(hub.iterdir())
    cached = fetch(facts, tmp_path / "data", sources)
    assert_same(cached.images, small_cifar.images)
    assert cached.images.classes == HUB_NAMES
    assert cached.source.startswith("test-00000-of-00001.parquet, MD5 ")
    assert cached.source.endswith(", another copy, accepted by its pixels and labels")
    assert verify(facts, tmp_path / "data").fingerprint == cached.fingerprint


def test_tiny_imagenet_is_the_same_from_every_source(
    tiny_members: dict[str, bytes],
    tiny_facts: DatasetFacts,
    tmp_path: Path,
    write_folder: Callable[[dict[str, bytes]], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = write_folder(tiny_members) / "tiny-imagenet-200"
    expected = decode_tiny_imagenet(folder, tiny_facts)
    hashes = (
        ContentHash(content_sha256(expected.train_images, expected.train_labels)),
        ContentHash(content_sha256(expected.test_images, expected.test_labels)),
    )
    monkeypatch.setitem(published_content.PUBLISHED, "tiny_imagenet", hashes)
    wnids = sorted((folder / "wnids.txt").read_text().split())
    pairs = [
        (path, label) for label, wnid in enumerate(wnids) for path in (folder / "train" / wnid / "images").iterdir()
    ]
    names = {"image": "image", "label": "label", "names": wnids}
    files = [
        write(
            tmp_path / "train-0.parquet",
            [path.read_bytes() for path, _ in pairs],
            [label for _, label in pairs],
            **names,
        )
    ]
    tests = [(folder / "val" / "images" / f"val_{k}.JPEG").read_bytes() for k in range(6)]
    files.append(write(tmp_path / "valid-0.parquet", tests, expected.test_labels.tolist(), **names))
    found = decode_parquet(files, tiny_facts)
    assert np.array_equal(found.test_images, expected.test_images)
    assert np.array_equal(np.sort(found.train_images, axis=0), np.sort(expected.train_images, axis=0))
    assert found.classes == tuple(wnids)
    changed = [*expected.test_labels.tolist()[1:], expected.test_labels.tolist()[0]]
    write(files[1], tests, changed, **names)
    with pytest.raises(DataError, match="not the published images of Tiny ImageNet: a pixel or a label of the test"):
        decode_parquet(files, tiny_facts)


def test_images_without_the_hubs_metadata_are_read_and_their_classes_are_numbers(
    hub: Path, facts: DatasetFacts, small_cifar: Any
) -> None:
    for path in hub.iterdir():
        parquet.write_table(parquet.read_table(path).replace_schema_metadata(None), path)
    assert decode_parquet(sorted(hub.iterdir()), facts).classes == ("0", "1", "2", "3")


def rewritten(hub: Path, name: str = "test-00000-of-00001.parquet", **changed: Any) -> None:
    path = hub / name
    rows = parquet.read_table(path).to_pylist()
    write(path, [row["img"]["bytes"] for row in rows], [row["fine_label"] for row in rows], **changed)


def with_a_row(hub: Path, **values: Any) -> None:
    path = hub / "test-00000-of-00001.parquet"
    table = parquet.read_table(path)
    rows = table.to_pylist()
    rows[3] |= values
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def brighter(hub: Path) -> None:
    with_a_row(hub, img={"bytes": encoded(np.full((3, 32, 32), 255, np.uint8)), "path": None})


def another_label(hub: Path) -> None:
    label = parquet.read_table(hub / "test-00000-of-00001.parquet")["fine_label"][3].as_py()
    with_a_row(hub, fine_label=(label + 1) % 4)


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "no test file": (lambda hub: (hub / "test-00000-of-00001.parquet").unlink(), "no file of test images"),
    "a file missing": (
        lambda hub: (hub / "train-00001-of-00002.parquet").unlink(),
        "11 training images, but CIFAR-100 has 20",
    ),
    "two test sets": (
        lambda hub: (hub / "valid-0.parquet").write_bytes((hub / "test-00000-of-00001.parquet").read_bytes()),
        "test-00000-of-00001.parquet and valid-0.parquet are two test sets",
    ),
    "no split": (
        lambda hub: (hub / "train-00001-of-00002.parquet").rename(hub / "training.parquet"),
        "training.parquet: neither training nor test images, by its name",
    ),
    "cut short": (
        lambda hub: (hub / "test-00000-of-00001.parquet").write_bytes(b"PAR1 and nothing"),
        "test-00000-of-00001.parquet: not a whole Parquet file",
    ),
    "no images": (lambda hub: rewritten(hub, image="picture"), "no column of images: it has picture, fine_label"),
    "no labels": (lambda hub: rewritten(hub, label="class"), "no column of labels: it has img, class, coarse_label"),
    "only paths": (
        lambda hub: with_a_row(hub, img={"bytes": None, "path": "a.png"}),
        "row 3 of test-00000-of-00001.parquet has no bytes",
    ),
    "no label": (lambda hub: with_a_row(hub, fine_label=None), "row 3 of test-00000-of-00001.parquet has no label"),
    "a label too large": (lambda hub: with_a_row(hub, fine_label=4), "a label lies outside 0 to 3"),
    "no picture": (
        lambda hub: with_a_row(hub, img={"bytes": b"GIF89a", "path": None}),
        "row 3 of test-00000-of-00001.parquet is not a readable PNG or JPEG",
    ),
    "another size": (
        lambda hub: with_a_row(hub, img={"bytes": encoded(np.zeros((3, 32, 16), np.uint8)), "path": None}),
        "row 3 of test-00000-of-00001.parquet has 16x32 pixels, not 32x32",
    ),
    "other pixels": (brighter, "not the published images of CIFAR-100: the mean of the test pixels is"),
    "another class": (another_label, r"has \d test images, not as many as the others"),
    "another order of classes": (
        lambda hub: rewritten(hub, "train-00000-of-00002.parquet", names=HUB_NAMES[::-1]),
        "its classes are not in alphabetical order",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_one_message(what: str, hub: Path, facts: DatasetFacts, tmp_path: Path) -> None:
    spoil, message = WRONG[what]
    spoil(hub)
    with pytest.raises(DataError, match=message):
        fetch(facts, tmp_path / "data", [hub])
    assert not cache_path(facts, tmp_path / "data").exists()


def test_without_pyarrow_one_message_says_how_to_install_it(
    hub: Path, facts: DatasetFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "pyarrow":
            raise ImportError(name)
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DataError, match=r"Parquet needs pyarrow.*\n.*biasrepro\[parquet\]"):
        decode_parquet(sorted(hub.iterdir()), facts)


def test_parquet_beside_something_else_and_of_an_unknown_data_set(
    hub: Path, facts: DatasetFacts, tmp_path: Path
) -> None:
    other = tmp_path / "a.zip"
    other.write_bytes(b"PK")
    with pytest.raises(DataError, match=r"a\.zip: not a Parquet file, as the others are"):
        fetch(facts, tmp_path / "data", [hub, other])
    with pytest.raises(DataError, match="2 files, which are not Parquet"):
        fetch(facts, tmp_path / "data", [other, other])
    with pytest.raises(DataError, match="not read from Parquet"):
        decode_parquet(sorted(hub.iterdir()), replace(facts, name="another"))


def test_the_published_moments_of_cifar100_are_those_of_whole_numbers() -> None:
    """Sums of 8-bit pixels are integers, and a square has its number's parity: figures made up would not agree."""
    facts = DATASETS["cifar100"]
    splits = zip(published_content.PUBLISHED["cifar100"], (facts.train_count, facts.test_count), strict=True)
    for moments, count in splits:
        assert isinstance(moments, Moments)
        pixels = count * 32 * 32
        for mean in moments.mean:
            total = mean * 255 * pixels
            assert abs(total - round(total)) < 1e-3
    train = published_content.PUBLISHED["cifar100"][0]
    assert isinstance(train, Moments)
    for mean, std in zip(train.mean, train.std, strict=True):
        total, squares = mean * 255 * 51_200_000, (mean**2 + std**2) * 255**2 * 51_200_000
        assert abs(squares - round(squares)) < 1e-2
        assert round(total) % 2 == round(squares) % 2


def test_one_pixel_more_or_less_is_noticed(facts: DatasetFacts, small_cifar: Any) -> None:
    images = small_cifar.images
    assert difference_from_published("cifar100", images) is None
    changed = images.train_images.copy()
    changed[0, 0, 0, 0] ^= 1
    assert "training pixels" in str(difference_from_published("cifar100", replace(images, train_images=changed)))
