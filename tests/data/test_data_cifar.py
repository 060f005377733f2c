"""The binary CIFAR files and the built-in digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from phalanx.data.locate import load
from phalanx.data.readers.digits import held_out
from phalanx.errors import DataError


def records(count: int, label_bytes: int, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).integers(0, 256, (count, label_bytes + 3072), np.uint8)
    values[:, :label_bytes] = np.arange(count)[:, None] % 10 + np.arange(label_bytes)
    return values


def test_cifar10_reads_the_five_batches_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    batches = [records(2, 1, seed) for seed in range(5)]
    for number, batch in enumerate(batches, start=1):
        (folder / f"data_batch_{number}.bin").write_bytes(batch.tobytes())
    (folder / "test_batch.bin").write_bytes(records(3, 1).tobytes())
    data = load("cifar10", tmp_path, "train")
    assert len(data) == 10
    assert data.card.class_names[9] == "truck"
    assert len(data.card.checksums) == 5
    expected = torch.from_numpy(batches[3][1, 1:].reshape(3, 32, 32).astype(np.float32)) / 255
    assert torch.equal(data.images([7])[0], expected)
    assert len(load("cifar10", folder)) == 3


def test_cifar100_has_fine_labels_and_names(tmp_path: Path) -> None:
    (tmp_path / "test.bin").write_bytes(records(4, 2).tobytes())
    data = load("cifar100", tmp_path)
    assert data.labels([0, 3]).tolist() == [1, 4]
    assert data.card.class_names == ()
    (tmp_path / "fine_label_names.txt").write_text("".join(f"class{i}\n" for i in range(100)))
    assert load("cifar100", tmp_path).card.class_names[99] == "class99"


def test_damaged_batches_are_named(tmp_path: Path) -> None:
    path = tmp_path / "test_batch.bin"
    for content in (b"", records(2, 1).tobytes()[:-1]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"test_batch\.bin.*3073.*data fetch cifar10"):
            load("cifar10", tmp_path)
    wrong = records(2, 1)
    wrong[1, 0] = 10
    path.write_bytes(wrong.tobytes())
    with pytest.raises(DataError, match="label 10"):
        load("cifar10", tmp_path)


def test_digits_split_is_stratified_and_disjoint() -> None:
    train, test = load("digits", split="train"), load("digits")
    assert (len(train), len(test)) == (1438, 359)
    counts = torch.bincount(test.labels(range(359)))
    assert int(counts.min()) >= 34
    assert int(counts.max()) <= 37
    pixels = test.images(range(359))
    assert pixels.shape == (359, 1, 8, 8)
    assert (float(pixels.min()), float(pixels.max())) == (0.0, 1.0)
    assert held_out(np.array([0] * 10)).sum() == 2


@pytest.mark.shared
def test_real_cifar10(shared_data: Path) -> None:
    data = load("cifar10", shared_data)
    assert len(data) == 1000
    assert data.labels(range(4)).tolist() == [3, 8, 8, 0]
    train = load("cifar10", shared_data, "train")
    assert len(train) == 50_000
    digest = "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"
    assert train.card.checksums["data_batch_1.bin"] == digest
