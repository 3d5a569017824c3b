"""What training gets: tensors of the promised types, whole and as subsets."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from repro.data import Dataset, load_dataset
from repro.data.augment import normalize
from repro.data.cache import open_cache, write_cache
from repro.data.prepare import cache_path
from repro.errors import DataError, UserError
from repro.experiment.catalog import DATASETS, default_root


@pytest.fixture
def root(small_cifar: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(DATASETS, "cifar100", small_cifar.facts)
    (tmp_path / "cifar-100-binary.tar.gz").write_bytes(small_cifar.binary_archive)
    return tmp_path


def check_contract(dataset: Dataset) -> None:
    size = dataset.image_size
    for images, labels in (
        (dataset.train_images, dataset.train_labels),
        (dataset.test_images, dataset.test_labels),
    ):
        assert images.dtype == torch.uint8
        assert images.shape == (len(labels), 3, size, size)
        assert images.is_contiguous()
        assert labels.dtype == torch.int64
        assert labels.unique().tolist() == list(range(dataset.num_classes))
    pixels = dataset.train_images.double() / 255
    assert torch.allclose(torch.tensor(dataset.mean, dtype=torch.float64), pixels.mean((0, 2, 3)), rtol=1e-12)
    deviations = pixels.transpose(0, 1).flatten(1).std(dim=1, correction=0)
    assert torch.allclose(torch.tensor(dataset.std, dtype=torch.float64), deviations, rtol=1e-12)


def test_the_whole_data_set(root: Path, small_cifar: Any) -> None:
    dataset = load_dataset("cifar100", root)
    check_contract(dataset)
    assert torch.equal(dataset.train_images, torch.from_numpy(small_cifar.images.train_images))
    assert dataset.classes == ("apple", "aquarium_fish", "baby", "bear")
    assert "as published" in dataset.source


def test_a_subset_is_the_first_classes_with_their_own_mean(root: Path) -> None:
    whole, subset = load_dataset("cifar100", root), load_dataset("cifar100", root, classes=2)
    check_contract(subset)
    assert subset.classes == ("apple", "aquarium_fish")
    assert torch.equal(subset.train_images, whole.train_images[whole.train_labels < 2])
    assert torch.equal(subset.test_labels, whole.test_labels[whole.test_labels < 2])
    assert subset.mean != whole.mean


def test_the_content_is_of_all_pixels_and_labels_in_their_order(root: Path, small_cifar: Any) -> None:
    first, images = load_dataset("cifar100", root), small_cifar.images
    other_pixels = images.test_images.copy()
    other_pixels[0, 0, 0, 0] ^= 1
    contents = [first.content]
    for decoded in (
        replace(images, train_images=images.train_images[::-1], train_labels=images.train_labels[::-1]),
        replace(images, test_labels=images.test_labels[::-1]),
        replace(images, test_images=other_pixels),
        images,
    ):
        write_cache(cache_path(small_cifar.facts, root), "cifar100", decoded, "another copy")
        found = load_dataset("cifar100", root)
        assert found.fingerprint == first.fingerprint
        contents.append(found.content)
    assert len(set(contents)) == 4
    assert contents[0] == contents[-1] == load_dataset("cifar100", root, classes=2).content


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_channel_that_is_the_same_everywhere_is_normalized_to_zero(root: Path, small_cifar: Any, value: int) -> None:
    images = small_cifar.images.train_images.copy()
    images[:, 2] = value
    images[small_cifar.images.train_labels < 2, 0] = value  # in the first two classes only
    decoded = replace(small_cifar.images, train_images=images)
    path = cache_path(small_cifar.facts, root)
    path.parent.mkdir()
    write_cache(path, "cifar100", decoded, "another copy")
    assert open_cache(path).pixel_sums.mean_and_std(4)[1][2] == 0.0
    for classes, channels in ((None, [2]), (2, [0, 2])):
        dataset = load_dataset("cifar100", root, classes)
        normalized = normalize(dataset.train_images, dataset.mean, dataset.std)
        assert normalized.isfinite().all()
        assert not normalized[:, channels].any()
        assert normalized[:, 1].any()


@pytest.mark.parametrize("classes", [0, 1, 5, -1])
def test_a_subset_must_have_classes(root: Path, classes: int) -> None:
    with pytest.raises(DataError, match="a subset has 2 to 4"):
        load_dataset("cifar100", root, classes=classes)


def test_tensors_may_be_written_without_harm_to_the_file(root: Path) -> None:
    dataset = load_dataset("cifar100", root)
    dataset.train_images.zero_()
    assert load_dataset("cifar100", root).train_images.any()


def test_digits_need_no_folder(tmp_path: Path) -> None:
    dataset = load_dataset("digits", tmp_path / "none")
    check_contract(dataset)
    assert (len(dataset.train_labels), len(dataset.test_labels)) == (1442, 355)
    check_contract(load_dataset("digits", tmp_path / "none", classes=3))
    assert not (tmp_path / "none").exists()


def test_the_root_is_named_or_in_the_environment_or_here(
    root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setenv("BIASREPRO_DATA", str(root))
    assert load_dataset("cifar100").name == "cifar100"
    monkeypatch.delenv("BIASREPRO_DATA")
    monkeypatch.chdir(tmp_path_factory.mktemp("empty"))
    assert default_root() == Path("data")
    with pytest.raises(DataError, match="--root data"):
        load_dataset("cifar100")


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match="Did you mean 'cifar100'"):
        load_dataset("cifar-100")


def test_facts_and_preparation_come_without_torch() -> None:
    code = "import sys, repro.data, repro.data.prepare, repro.data.tiny_imagenet; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
