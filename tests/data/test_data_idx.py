"""IDX files and the two sets that are made of them."""

from __future__ import annotations

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from data_helpers import idx_bytes, write_mnist

from phalanx.data.idx import read_idx
from phalanx.data.locate import load
from phalanx.errors import DataError, ParameterError

LABELS = np.array([7, 2, 1, 0, 9])


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("place", [".", "mnist", "MNIST/raw"])
def test_mnist_is_found_and_scaled(
    tmp_path: Path, pixels: np.ndarray, zipped: bool, place: str
) -> None:
    write_mnist(tmp_path / place, pixels, LABELS, zipped=zipped)
    data = load("mnist", tmp_path)
    assert len(data) == 5
    assert data.card.shape == (1, 28, 28)
    assert data.card.value_range == (0.0, 1.0)
    assert torch.equal(data.labels([4, 0]), torch.tensor([9, 7]))
    got = data.images([3, 1])
    assert got.dtype == torch.float32
    expected = torch.from_numpy(pixels[[3, 1]][:, None].astype(np.float32)) / 255
    assert torch.equal(got, expected)
    name = "t10k-images-idx3-ubyte" + (".gz" if zipped else "")
    content = (tmp_path / place / name).read_bytes()
    assert data.card.checksums[name] == hashlib.sha256(content).hexdigest()


def test_environment_comes_before_the_cache(
    tmp_path: Path, own_cache: Path, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_mnist(own_cache / "phalanx/data/mnist", pixels[:2], LABELS[:2], zipped=True)
    assert len(load("mnist")) == 2
    write_mnist(tmp_path / "named", pixels[:3], LABELS[:3], zipped=True)
    monkeypatch.setenv("PHALANX_DATA", str(tmp_path / "named"))
    assert len(load("mnist", split="train")) == 3
    with pytest.raises(DataError, match="nowhere"):
        load("mnist", tmp_path / "nowhere")


def test_one_root_keeps_mnist_and_fashion_apart(tmp_path: Path, pixels: np.ndarray) -> None:
    write_mnist(tmp_path, pixels, LABELS, zipped=True)
    write_mnist(tmp_path / "fashion-mnist", pixels[:1], LABELS[:1], zipped=True)
    assert len(load("mnist", tmp_path)) == 5
    assert len(load("fashion-mnist", tmp_path)) == 1


def test_missing_files_name_the_places_and_the_repair(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load("fashion-mnist", tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "phalanx data fetch fashion-mnist" in str(caught.value)
    with pytest.raises(DataError, match="no data set 'imagenett'"):
        load("imagenett")
    with pytest.raises(ParameterError, match="no split 'val'"):
        load("mnist", tmp_path, split="val")


GOOD = idx_bytes(np.arange(12).reshape(3, 2, 2))
BROKEN = {
    "empty": b"",
    "header cut": GOOD[:7],
    "values cut": GOOD[:-1],
    "surplus": GOOD + b"\0",
    "magic": b"\x01" + GOOD[1:],
    "floats": GOOD[:2] + b"\x0d" + GOOD[3:],
    "no dimensions": GOOD[:3] + b"\0" + GOOD[4:],
    "zero size": struct.pack(">HBBI", 0, 8, 1, 0),
    "bomb": struct.pack(">HBB3I", 0, 8, 3, 1 << 31, 1 << 31, 1 << 31),
    "gzip cut": gzip.compress(GOOD)[:-9],
    "gzip without its checksum": gzip.compress(GOOD)[:-8],
    "gzip damaged": gzip.compress(GOOD)[:12] + b"\xff\xff" + gzip.compress(GOOD)[14:],
    "gzip wrong checksum": gzip.compress(GOOD)[:-8] + bytes(8),
    "gzip bomb": gzip.compress(GOOD + bytes(1 << 22)),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_files_are_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "images"
    path.write_bytes(BROKEN[kind])
    with pytest.raises(DataError, match=r"images.*repair: phalanx data fetch mnist"):
        read_idx(path, repair="phalanx data fetch mnist")


def test_good_file_round_trips(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(GOOD)
    assert np.array_equal(read_idx(tmp_path / "x")[0], np.arange(12).reshape(3, 2, 2))


def test_images_and_labels_must_fit(tmp_path: Path, pixels: np.ndarray) -> None:
    write_mnist(tmp_path / "a", pixels, LABELS[:4], zipped=False)
    with pytest.raises(DataError, match=r"\(5, 28, 28\)"):
        load("mnist", tmp_path / "a")
    write_mnist(tmp_path / "b", pixels, LABELS + 1, zipped=False)
    with pytest.raises(DataError, match="labels from 1 to 10"):
        load("mnist", tmp_path / "b")


@pytest.mark.shared
def test_real_mnist(shared_data: Path) -> None:
    data = load("mnist", shared_data)
    assert len(data) == 10_000
    assert data.labels(range(6)).tolist() == [7, 2, 1, 0, 4, 1]
    # the mean of the published test pixels
    assert float(data.images(range(10_000)).mean()) == pytest.approx(0.13251, abs=1e-5)
    official = "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
    assert data.card.checksums["t10k-images-idx3-ubyte.gz"] == official
    with pytest.raises(DataError, match="belongs to data set 'mnist'"):
        load("fashion-mnist", shared_data / "mnist")
