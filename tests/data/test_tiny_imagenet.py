"""Tiny ImageNet in its three forms, its structure check, and the real archive where it is at hand."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from repro.data.tiny_imagenet import _LIMITS, decode_tiny_imagenet
from repro.errors import DataError
from repro.experiment.catalog import DATASETS, DatasetFacts

Pack = Callable[[str, dict[str, bytes]], bytes]
Members = dict[str, bytes]
TOP = "tiny-imagenet-200"


def pixels(content: bytes) -> np.ndarray:
    """What Pillow makes of a JPEG, uint8 (3, H, W)."""
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).transpose(2, 0, 1)


@pytest.mark.parametrize("form", ["zip", "tar.gz", "tar.xz", "folder"])
def test_every_form_gives_the_same_images_in_the_order_of_wnid_and_number(
    form: str,
    tiny_members: Members,
    tiny_facts: DatasetFacts,
    tmp_path: Path,
    pack: Pack,
    write_folder: Callable[[Members], Path],
) -> None:
    if form == "folder":
        source = write_folder(tiny_members) / TOP
    else:
        source = tmp_path / "x"
        source.write_bytes(pack(form, tiny_members))
    seen: list[tuple[int, int]] = []
    images = decode_tiny_imagenet(source, tiny_facts, lambda done, total: seen.append((done, total)))
    images.check(tiny_facts)
    wnids = ("n01443537", "n01629819", "n01641577")
    assert images.train_labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    for row in range(12):
        wnid = wnids[row // 4]
        assert np.array_equal(
            images.train_images[row], pixels(tiny_members[f"{TOP}/train/{wnid}/images/{wnid}_{row % 4}.JPEG"])
        )
    for row in range(6):
        assert np.array_equal(images.test_images[row], pixels(tiny_members[f"{TOP}/val/images/val_{row}.JPEG"]))
    assert images.test_labels.tolist() == [0, 2, 1, 0, 2, 1]
    assert images.classes == ("goldfish, Carassius auratus", "European fire salamander", "bullfrog, Rana catesbeiana")
    assert seen[-1] == (18, 18)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def sorted_into_classes(members: Members, *, keep: bool, inner: str = "") -> Members:
    """Validation images in folders of their classes, as scripts for torchvision's ImageFolder leave them."""
    text = members[f"{TOP}/val/val_annotations.txt"].decode()
    wnid_of = dict(line.split("\t")[:2] for line in text.splitlines())
    moved: Members = {}
    for name, content in members.items():
        file_name = name.rpartition("/")[2]
        if file_name in wnid_of:
            moved[f"{TOP}/val/{wnid_of[file_name]}/{inner}{file_name}"] = content
        elif keep or file_name != "val_annotations.txt":
            moved[name] = content
    return moved


LAYOUTS: dict[str, Callable[[Members], Members]] = {
    "sorted, annotations kept": lambda members: sorted_into_classes(members, keep=True),
    "sorted, no annotations": lambda members: sorted_into_classes(members, keep=False),
    "sorted, in images": lambda members: sorted_into_classes(members, keep=False, inner="images/"),
    "nested": lambda members: {f"{TOP}/{name}": content for name, content in members.items()},
    "another folder": lambda members: {name.replace(TOP, "tiny"): content for name, content in members.items()},
    "no folder": lambda members: {name.removeprefix(f"{TOP}/"): content for name, content in members.items()},
    "no images": lambda members: {name.replace("/images/", "/"): content for name, content in members.items()},
    "from a Mac": lambda members: {f"__MACOSX/{TOP}/._x": b"", f"{TOP}/.DS_Store": b"", **members},
    "with a mark": lambda members: {**members, f"{TOP}/wnids.txt": b"\xef\xbb\xbf" + members[f"{TOP}/wnids.txt"]},
    "with CRLF": lambda members: {
        name: content.replace(b"\n", b"\r\n") if name.endswith(".txt") else content for name, content in members.items()
    },
}


@pytest.mark.parametrize("form", ["zip", "tar.gz", "folder", "backslashes"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_that_people_have_give_the_same_images(
    form: str,
    layout: str,
    tiny_members: Members,
    tiny_facts: DatasetFacts,
    tmp_path: Path,
    pack: Pack,
    write_folder: Callable[[Members], Path],
) -> None:
    (tmp_path / "published").write_bytes(pack("zip", tiny_members))
    expected = decode_tiny_imagenet(tmp_path / "published", tiny_facts)
    members = LAYOUTS[layout](tiny_members)
    if form == "folder":
        source = write_folder(members)
    else:
        source = tmp_path / "x"
        if form == "backslashes":
            members = {name.replace("/", "\\"): content for name, content in members.items()}
        source.write_bytes(pack("zip" if form == "backslashes" else form, members))
    images = decode_tiny_imagenet(source, tiny_facts)
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        assert np.array_equal(getattr(images, name), getattr(expected, name)), name
    assert images.classes == expected.classes


def test_what_contradicts_itself_is_named_before_an_image_is_decoded(
    tiny_members: Members, tiny_facts: DatasetFacts, tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("repro.data.tiny_imagenet.decode_square", None)
    arranged = sorted_into_classes(tiny_members, keep=True)
    wrong = {name.replace("val/n01443537/val_0", "val/n01629819/val_0"): content for name, content in arranged.items()}
    twice = {**tiny_members, f"{TOP}/val/n01443537/val_0.JPEG": b""}
    copies = {**tiny_members, f"copy/{TOP}/train/n01443537/images/n01443537_0.JPEG": b""}
    some = {name: content for name, content in tiny_members.items() if "val_annotations" not in name}
    for members, message in (
        (wrong, "val/n01629819/val_0.JPEG is of class n01443537 by val_annotations.txt"),
        (twice, "the validation image val_0.JPEG is here twice"),
        (copies, "training images are in 2 places: copy/tiny-imagenet-200/ and tiny-imagenet-200/"),
        (some, r"val/val_annotations.txt is missing, and .*val_..JPEG is in no folder of its class"),
        ({"readme": b""}, "wnids.txt is missing"),
    ):
        with pytest.raises(DataError, match=message):
            decode_changed(members, tiny_facts, tmp_path, pack)


def test_greyscale_becomes_three_equal_channels(tiny_members: Members) -> None:
    grey = [content for name, content in tiny_members.items() if name.endswith("JPEG") and "test" not in name][4]
    assert Image.open(io.BytesIO(grey)).mode == "L"
    assert (pixels(grey)[0] == pixels(grey)[2]).all()


def decode_changed(changed: Members, facts: DatasetFacts, tmp_path: Path, pack: Pack) -> None:
    path = tmp_path / "tiny-imagenet-200.zip"
    path.write_bytes(pack("zip", changed))
    decode_tiny_imagenet(path, facts)


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("wnids.txt", "wnids.txt is missing"),
        ("words.txt", "words.txt is missing"),
        ("val/val_annotations.txt", "val/val_annotations.txt is missing"),
        ("train/n01629819/images/n01629819_2.JPEG", "class n01629819 has 3 training images, not 4"),
        ("val/images/val_4.JPEG", "there are 5 validation images, not 6"),
    ],
)
def test_a_missing_file_is_named(
    lost: str, message: str, tiny_members: Members, tiny_facts: DatasetFacts, tmp_path: Path, pack: Pack
) -> None:
    members = {name: content for name, content in tiny_members.items() if name != f"{TOP}/{lost}"}
    with pytest.raises(DataError, match=message) as error:
        decode_changed(members, tiny_facts, tmp_path, pack)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("wnids.txt", b"n01443537\nn01629819", "names 2 classes, not 3"),
        ("train/n09999999/images/n09999999_0.JPEG", None, "n09999999_0.JPEG is not an image of this data set"),
        ("train/n01443537/images/n01443537_4.JPEG", None, "n01443537_4.JPEG is not an image of this data set"),
        ("val/images/val_6.JPEG", None, "val_6.JPEG has no valid line"),
        ("val/val_annotations.txt", b"val_0.JPEG\tn01443537\t0", "has no valid line"),
        ("val/val_annotations.txt", b"\xff\xfe\x00", "has no valid line"),
        ("val/images/val_2.JPEG", b"not a picture", "val/images/val_2.JPEG is not a readable JPEG"),
    ],
)
def test_a_wrong_file_is_named(
    name: str,
    content: bytes | None,
    message: str,
    tiny_members: Members,
    tiny_facts: DatasetFacts,
    tmp_path: Path,
    pack: Pack,
) -> None:
    jpeg = tiny_members[f"{TOP}/val/images/val_0.JPEG"]
    with pytest.raises(DataError, match=message):
        decode_changed({**tiny_members, f"{TOP}/{name}": content or jpeg}, tiny_facts, tmp_path, pack)


def test_the_same_number_twice_is_refused(
    tiny_members: Members, tiny_facts: DatasetFacts, tmp_path: Path, pack: Pack
) -> None:
    members = dict(tiny_members)
    members[f"{TOP}/train/n01443537/images/n01443537_01.JPEG"] = members.pop(
        f"{TOP}/train/n01443537/images/n01443537_2.JPEG"
    )
    with pytest.raises(DataError, match="two training images have the same number"):
        decode_changed(members, tiny_facts, tmp_path, pack)


@pytest.mark.parametrize("kind", ["cut", "size", "png"])
def test_a_picture_of_another_kind_is_named(
    kind: str, tiny_members: Members, tiny_facts: DatasetFacts, tmp_path: Path, pack: Pack
) -> None:
    name = "train/n01641577/images/n01641577_1.JPEG"
    content = tiny_members[f"{TOP}/{name}"]
    if kind == "cut":
        content, message = content[: len(content) // 2], "is not a readable JPEG"
    else:
        buffer = io.BytesIO()
        size = (64, 64) if kind == "png" else (64, 63)
        Image.new("RGB", size).save(buffer, "PNG" if kind == "png" else "JPEG")
        content, message = buffer.getvalue(), "is not a readable JPEG" if kind == "png" else "has 64x63 pixels"
    with pytest.raises(DataError, match=rf"{name} {message}"):
        decode_changed({**tiny_members, f"{TOP}/{name}": content}, tiny_facts, tmp_path, pack)


@pytest.mark.slow
def test_many_images_are_decoded_by_several_processes(
    tiny_members: Members, tiny_facts: DatasetFacts, tmp_path: Path, pack: Pack
) -> None:
    texts = {name: content for name, content in tiny_members.items() if name.endswith(".txt")}
    jpegs = [content for name, content in tiny_members.items() if "/val/images/" in name]
    members = {
        f"{TOP}/train/{wnid}/images/{wnid}_{k}.JPEG": jpegs[k % 6]
        for wnid in ("n01443537", "n01629819", "n01641577")
        for k in range(400)
    }
    members |= texts | {name: content for name, content in tiny_members.items() if "/val/images/" in name}
    path = tmp_path / "many.zip"
    path.write_bytes(pack("zip", members))
    images = decode_tiny_imagenet(path, replace(tiny_facts, train_count=1200))
    expected = np.stack([pixels(jpegs[k % 6]) for k in range(400)])
    assert np.array_equal(images.train_images, np.concatenate([expected] * 3))


def real_archive() -> Path:
    named = os.environ.get("BIASREPRO_TINY_IMAGENET")
    return Path(named) if named else Path(__file__).parents[3] / "shared" / "data" / "tiny-imagenet-200.tar.xz"


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.skipif(not real_archive().exists(), reason="no real Tiny ImageNet: set BIASREPRO_TINY_IMAGENET")
def test_the_real_archive_decodes_whole() -> None:
    facts = DATASETS["tiny_imagenet"]
    images = decode_tiny_imagenet(real_archive(), facts)
    images.check(facts)
    assert np.bincount(images.train_labels).tolist() == [500] * 200
    assert np.bincount(images.test_labels).tolist() == [50] * 200
    assert images.classes[0] == "goldfish, Carassius auratus"
    grey = (images.train_images[:, 0] == images.train_images[:, 2]).all(axis=(1, 2))
    assert 0.01 < grey.mean() < 0.03  # about 2% are greyscale
    if real_archive().suffix == ".xz":
        with tarfile.open(real_archive(), "r|xz") as tar:
            for member in tar:  # the first class comes first: a handful, without unpacking the rest again
                if member.name.startswith(f"{TOP}/train/n01443537/images/"):
                    row = int(member.name.rsplit("_")[-1].removesuffix(".JPEG"))
                    content = tar.extractfile(member)
                    assert content is not None
                    assert np.array_equal(images.train_images[row], pixels(content.read()))
                    if row == 20:
                        break


def test_a_file_of_an_unpacked_folder_is_read_up_to_a_size(
    tiny_members: Members,
    tiny_facts: DatasetFacts,
    write_folder: Callable[[Members], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = write_folder(tiny_members) / TOP
    largest = max(len(content) for content in tiny_members.values())
    for limit, fits in ((largest, True), (largest - 1, False)):
        monkeypatch.setattr("repro.data.tiny_imagenet._LIMITS", replace(_LIMITS, member_bytes=limit))
        with nullcontext() if fits else pytest.raises(DataError, match="is too large for a file of this data set"):
            decode_tiny_imagenet(source, tiny_facts)
