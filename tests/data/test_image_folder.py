"""Folders of the user's own images: what is read, how, and what is wrong with a folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from repro.data.cache import open_cache
from repro.data.dataset import load_dataset
from repro.data.decoded import PixelSums
from repro.data.image_folder import square_centre
from repro.data.node_copy import open_on_node
from repro.data.prepare import cache_path, open_decoded
from repro.errors import DataError
from repro.experiment import folder_listing
from repro.experiment.folder_listing import folder_facts, known_fingerprint, list_folder


@pytest.fixture(autouse=True)
def a_new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is listed or known from another test."""
    list_folder.cache_clear()
    monkeypatch.setattr(folder_listing, "_known_fingerprints", {})


def picture(seed: int, size: tuple[int, int] = (40, 48), mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1] // 8, size[0] // 8, 3), np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).convert(mode)


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    """Two classes: 3 and 2 training images, 2 and 1 test images."""
    for number, (name, count) in enumerate({"train/crow": 3, "train/owl": 2, "test/crow": 2, "test/owl": 1}.items()):
        (tmp_path / "birds" / name).mkdir(parents=True)
        for image in range(count):
            picture(10 * number + image).save(tmp_path / "birds" / name / f"{image}.png")
    return tmp_path / "birds"


def decoded(folder: Path, root: Path, size: int = 32) -> Any:
    list_folder.cache_clear()
    return open_decoded(folder_facts(folder, size), root)


def test_classes_by_name_and_images_by_path(birds: Path, tmp_path: Path) -> None:
    (birds / "train" / "owl" / "more").mkdir()
    picture(7).save(birds / "train" / "owl" / "more" / "9.bmp")
    (birds / "train" / "owl" / ".hidden").write_text("no image")
    (birds / "train" / "owl" / "Thumbs.db").write_text("no image")
    (birds / "train" / "README").write_text("no image")
    cached = decoded(birds, tmp_path / "data")
    assert cached.images.classes == ("crow", "owl")
    assert cached.images.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert cached.images.test_labels.tolist() == [0, 0, 1]
    expected = square_centre(birds / "train" / "owl" / "more" / "9.bmp", 32).transpose(2, 0, 1)
    assert np.array_equal(cached.images.train_images[5], expected)
    assert cached.source == "folder birds"


@pytest.mark.parametrize("size", [(40, 48), (48, 40), (33, 32), (300, 91), (20, 24), (32, 32)])
def test_an_image_is_resized_and_cut_as_torchvision_does(size: tuple[int, int], tmp_path: Path) -> None:
    image = picture(3, size)
    image.save(tmp_path / "a.png")
    expected = transforms.Compose([transforms.Resize(32), transforms.CenterCrop(32)])(image)
    assert np.array_equal(square_centre(tmp_path / "a.png", 32), np.asarray(expected))


@pytest.mark.parametrize(("mode", "form"), [("L", "png"), ("P", "gif"), ("RGBA", "png"), ("CMYK", "jpg"), ("1", "png")])
def test_other_modes_become_rgb_as_pillow_converts_them(mode: str, form: str, tmp_path: Path) -> None:
    picture(5, (32, 32), mode).save(tmp_path / f"a.{form}")
    with Image.open(tmp_path / f"a.{form}") as image:
        expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(square_centre(tmp_path / f"a.{form}", 32), expected)


def test_sixteen_bits_are_scaled_and_a_turned_photograph_is_turned_back(tmp_path: Path) -> None:
    grey = np.arange(32 * 32, dtype=np.uint16).reshape(32, 32) * 64
    Image.fromarray(grey).save(tmp_path / "a.png")
    assert np.array_equal(square_centre(tmp_path / "a.png", 32)[:, :, 0], (grey >> 8).astype(np.uint8))
    image, exif = picture(4, (48, 32)), Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "b.png", exif=exif)
    image.save(tmp_path / "c.png")
    assert np.array_equal(square_centre(tmp_path / "b.png", 32), square_centre(tmp_path / "c.png", 32))


def test_the_fingerprint_is_that_of_pixels_and_labels_wherever_the_folder_lies(birds: Path, tmp_path: Path) -> None:
    first = decoded(birds, tmp_path / "data")
    elsewhere = tmp_path / "other" / "vögel"
    shutil.copytree(birds, elsewhere)
    os.utime(elsewhere / "train" / "owl" / "0.png", (1, 1))
    (elsewhere / "test").rename(elsewhere / "val")
    for split in ("train", "val"):
        (elsewhere / split / "owl").rename(elsewhere / split / "zebra finch")
    second = decoded(elsewhere, tmp_path / "data")
    assert second.content == first.content
    assert second.images.classes == ("crow", "zebra finch")
    picture(99).save(elsewhere / "train" / "crow" / "0.png")
    assert decoded(elsewhere, tmp_path / "data").content != first.content
    assert decoded(birds, tmp_path / "data", 64).content != first.content


def test_the_fingerprint_of_known_images_stays_what_it_is(tmp_path: Path) -> None:
    """It is in configurations: another way to compute it would make every record of a folder another one's."""
    for number, name in enumerate(("train/a", "train/b", "test/a", "test/b")):
        (tmp_path / "known" / name).mkdir(parents=True)
        Image.new("RGB", (32, 32), (number, 2 * number, 3 * number)).save(tmp_path / "known" / name / "0.png")
    content = decoded(tmp_path / "known", tmp_path / "data").content
    assert content == "7225fef19c6e643a309d5ab87cf2d256ec1777d4832372038d0dc23aae6a30ce"


def test_a_folder_is_decoded_once_and_its_fingerprint_known_from_then_on(
    birds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIASREPRO_DATA", str(tmp_path / "data"))
    assert known_fingerprint(birds, 32) is None
    content = decoded(birds, tmp_path / "data").content
    folder_listing._known_fingerprints.clear()  # another process
    assert known_fingerprint(birds, 32) == content
    facts = folder_facts(birds, 32)
    written = cache_path(facts, tmp_path / "data").stat().st_mtime_ns
    assert open_on_node(facts, tmp_path / "data", tmp_path / "node").content == content
    assert cache_path(facts, tmp_path / "data").stat().st_mtime_ns == written
    assert open_cache(next((tmp_path / "node").rglob("decoded-*.bin"))).content == content
    assert not list((tmp_path / "data").rglob("*.tmp"))


def test_names_that_are_no_utf8_are_decoded_and_shown_as_bytes(birds: Path, tmp_path: Path) -> None:
    for split in ("train", "test"):
        (birds / split / "owl").rename(birds / split / os.fsdecode(b"h\xe9ron"))
    folder = birds.rename(tmp_path / os.fsdecode(b"v\xf6gel"))
    dataset = load_dataset(folder_facts(folder, 32), tmp_path / "data")
    assert dataset.classes == ("crow", r"h\xe9ron")
    assert dataset.source == r"folder v\xf6gel"
    assert known_fingerprint(folder, 32) == dataset.content == decoded(folder, tmp_path / "data").content


def test_training_gets_the_images_and_a_subset_of_the_classes(birds: Path, tmp_path: Path) -> None:
    for split in ("train", "test"):
        shutil.copytree(birds / split / "owl", birds / split / "tit")
    list_folder.cache_clear()
    dataset = load_dataset(folder_facts(birds, 64), tmp_path / "data", classes=2)
    assert dataset.train_images.shape == (5, 3, 64, 64)
    assert dataset.train_labels.tolist() == [0, 0, 0, 1, 1]
    assert dataset.classes == ("crow", "owl")
    assert dataset.train_images.dtype == torch.uint8


def no_test_folder(birds: Path) -> None:
    shutil.rmtree(birds / "test")


def one_class(birds: Path) -> None:
    for split in ("train", "test"):
        shutil.rmtree(birds / split / "owl")


def a_loop(birds: Path) -> None:
    (birds / "train" / "owl" / "again").symlink_to(birds / "train")


def a_dangling_link(birds: Path) -> None:
    (birds / "train" / "owl" / "x.png").symlink_to(birds / "nothing")


def a_pipe(birds: Path) -> None:
    os.mkfifo(birds / "train" / "owl" / "x.png")


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (shutil.rmtree, r"birds: no such folder\n  dataset.path is relative to the folder of the YAML file"),
    "a file": (lambda birds: (shutil.rmtree(birds), birds.write_text("")), "birds: not a folder"),
    "no train": (
        lambda birds: (birds / "train").rename(birds / "training"),
        r"no folder train/\n  It needs train/ and",
    ),
    "no test": (no_test_folder, r"no folder test/\n  It needs train/ and test/ \(or val/\)"),
    "one class": (one_class, "one class, crow: at least two are needed"),
    "no class": (lambda birds: [shutil.rmtree(path) for path in birds.glob("*/*")], "no class: at least two"),
    "an empty class": (lambda birds: [path.unlink() for path in birds.glob("test/owl/*")], "no image in the class owl"),
    "a class in train only": (
        lambda birds: shutil.rmtree(birds / "test/owl"),
        "the class owl in train/ but not in test/",
    ),
    "a class in test only": (lambda birds: (birds / "test/emu").mkdir(), "the class emu in test/ but not in train/"),
    "a loop": (a_loop, "again.*a link to a folder above it"),
    "a dangling link": (a_dangling_link, r"x\.png: a link to nothing"),
    "a pipe": (a_pipe, r"x\.png: neither a file nor a folder"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_with_a_folder_is_one_message(what: str, birds: Path) -> None:
    spoil, message = WRONG[what]
    spoil(birds)
    with pytest.raises(DataError, match=message) as error:
        folder_facts(birds, 32)
    assert error.value.hint


def test_every_file_that_is_no_image_is_named_up_to_ten(birds: Path, tmp_path: Path) -> None:
    whole = (birds / "train" / "crow" / "0.png").read_bytes()
    (birds / "train" / "crow" / "0.png").write_bytes(whole[: len(whole) // 2])
    (birds / "train" / "owl" / "labels.csv").write_text("a,b")
    (birds / "test" / "owl" / "deep.tif").write_bytes(b"")
    Image.fromarray(np.zeros((32, 32), np.float32)).save(birds / "test" / "owl" / "deep.tif")
    with pytest.raises(DataError) as error:
        decoded(birds, tmp_path / "data")
    assert error.value.what.startswith("3 files cannot be read as images: train/crow/0.png (")
    assert "train/owl/labels.csv (not an image)" in error.value.what
    assert "test/owl/deep.tif (32 bits for each pixel" in error.value.what
    for number in range(20):
        (birds / "train" / "owl" / f"{number:02}.txt").write_text("")
    with pytest.raises(DataError, match=r"23 files cannot be read as images: ([^;]*;){10} and 13 more\n"):
        decoded(birds, tmp_path / "data")
    assert not list((tmp_path / "data").rglob("decoded*"))


def test_a_disk_too_full_is_said_before_an_image_is_decoded(
    birds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("repro.data.prepare.decode_folder", None)
    monkeypatch.setattr("repro.data.prepare.free_bytes", lambda path: 30_000)
    with pytest.raises(DataError, match=r"not enough disk space: 49\.3 kB needed"):
        decoded(birds, tmp_path / "data")


def test_sums_are_the_same_in_blocks_and_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (50, 3, 8, 8), np.uint8), random.integers(0, 3, 50)
    monkeypatch.setattr("repro.data.decoded._PIXELS_AT_ONCE", 7 * 64)
    sums = PixelSums.of(images, labels, 3)
    for label in range(3):
        pixels = images[labels == label].astype(np.int64)
        assert np.array_equal(sums.sums[label], pixels.sum(axis=(0, 2, 3)))
        assert np.array_equal(sums.square_sums[label], (pixels**2).sum(axis=(0, 2, 3)))
        assert sums.pixels[label] == pixels.size // 3


def test_facts_of_a_folder_say_how_many_images_each_class_has(birds: Path) -> None:
    facts = folder_facts(birds, 96)
    assert (facts.num_classes, facts.train_count, facts.test_count) == (2, 5, 3)
    assert facts.test_counts == (2, 1)
    assert not facts.included
    assert facts.cache_folder.startswith("folder/birds-")
    assert replace(facts, folder=None).included
