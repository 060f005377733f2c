"""Folders of images."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from phalanx.data.locate import load
from phalanx.data.readers.folder import folder_of_images
from phalanx.errors import DataError, MissingDependencyError


def paint(path: Path, colour: tuple[int, int, int] | int, size: tuple[int, int] = (40, 20)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L" if isinstance(colour, int) else "RGB", size, colour).save(path)


def test_class_folders_are_lazy_and_cropped(tmp_path: Path) -> None:
    paint(tmp_path / "val/n02/b.png", (255, 0, 51))
    paint(tmp_path / "val/n01/a.png", 102, (300, 500))
    (tmp_path / "val/n00").mkdir()
    (tmp_path / "val/.cache").mkdir()
    data = load(tmp_path)
    assert data.card.class_names == ("n00", "n01", "n02")
    assert data.card.shape == (3, 224, 224)
    assert "256" in data.card.preprocessing
    assert data.labels([0, 1]).tolist() == [1, 2]
    images = data.images([0, 1])
    assert images.shape == (2, 3, 224, 224)
    assert torch.equal(images[1, :, 0, 0], torch.tensor([255.0, 0.0, 51.0]) / 255)
    assert torch.equal(images[0], torch.full((3, 224, 224), 102 / 255))


def test_resize_and_crop_take_the_centre(tmp_path: Path) -> None:
    wide = np.zeros((16, 32, 3), np.uint8)
    wide[:, 8:24] = 255
    (tmp_path / "c").mkdir()
    Image.fromarray(wide).save(tmp_path / "c/wide.png")
    data = folder_of_images(tmp_path, "test", resize=16, crop=16)
    assert torch.equal(data.images([0])[0], torch.ones(3, 16, 16))


def test_flat_imagenet_folder(tmp_path: Path) -> None:
    for name in ("ILSVRC2012_val_00000001", "ILSVRC2012_val_00000002"):
        paint(tmp_path / "val" / f"{name}.png", 0)
    (tmp_path / "LOC_val_solution.csv").write_text(
        "ImageId,PredictionString\n"
        "ILSVRC2012_val_00000002,n03 85 1 499 272 \n"
        "ILSVRC2012_val_00000001,n02 1 1 2 2 n02 3 3 4 4 \n"
    )
    assert load(tmp_path).labels([0, 1]).tolist() == [0, 1]
    (tmp_path / "LOC_synset_mapping.txt").write_text("n01 fish\nn02 dog, hound\nn03 cat\n")
    data = load(tmp_path)
    assert data.labels([0, 1]).tolist() == [1, 2]
    assert data.card.classes == 3


def test_plain_label_files(tmp_path: Path) -> None:
    paint(tmp_path / "a 1.png", 0)
    paint(tmp_path / "b.png", 0)
    assert not load(tmp_path).labelled
    (tmp_path / "labels.txt").write_text("b.png 7\na 1.png 10\n")
    data = load(tmp_path)
    assert data.labels([0, 1]).tolist() == [10, 7]
    assert data.card.classes is None
    before = data.card.checksums
    (tmp_path / "labels.txt").write_text("b.png dog\na 1.png cat\n")
    data = load(tmp_path)
    assert data.card.class_names == ("cat", "dog")
    assert data.labels([0, 1]).tolist() == [0, 1]
    assert data.card.checksums != before


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("a.png\n", "'filename label' was expected"),
        ("c.png 1\n", "no label for 1 of 1 images; the first is a.png"),
        (b"\xff\xfe\x00", "UTF-8"),
    ],
)
def test_bad_label_files(tmp_path: Path, labels: str | bytes, message: str) -> None:
    paint(tmp_path / "a.png", 0)
    content = labels if isinstance(labels, bytes) else labels.encode()
    (tmp_path / "labels.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load(tmp_path)


def test_folders_without_a_meaning(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no images"):
        load(tmp_path)
    paint(tmp_path / "c/a.png", 0)
    paint(tmp_path / "stray.png", 0)
    with pytest.raises(DataError, match="both images and folders"):
        load(tmp_path)
    with pytest.raises(DataError, match="no folder of images was named"):
        load("folder")


def test_unreadable_images_are_named_when_asked_for(tmp_path: Path) -> None:
    paint(tmp_path / "a.png", 0)
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "b.png").write_bytes(whole[:40])
    (tmp_path / "c.png").write_bytes(b"not an image")
    # a header that announces 60,000 x 60,000 pixels
    bomb = whole[:16] + (60_000).to_bytes(4, "big") * 2 + whole[24:]
    (tmp_path / "d.png").write_bytes(bomb)
    paint(tmp_path / "e.png", 0, (1, 9000))
    data = load(tmp_path)
    assert data.images([0]).shape == (1, 3, 224, 224)
    for index, name in enumerate("bcde", start=1):
        with pytest.raises(DataError, match=rf"{name}\.png"):
            data.images([index])


def test_pillow_is_optional(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paint(tmp_path / "a.png", 0)
    real = builtins.__import__

    def without_pillow(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("PIL"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_pillow)
    with pytest.raises(MissingDependencyError, match=r"phalanx\[images\]"):
        load(tmp_path)


@pytest.mark.parametrize("below", ["", "imagenet"])
def test_imagenet_is_found_below_the_named_folder(tmp_path: Path, below: str) -> None:
    paint(tmp_path / below / "train/n01/a.png", 10)
    paint(tmp_path / below / "train/n02/a.png", 20)
    paint(tmp_path / below / "val/n01/c.png", 30)
    paint(tmp_path / below / "val/n02/d.png", 40)
    assert len(load("imagenet", tmp_path, "train")) == 2
    assert load("imagenet", tmp_path).labels([0, 1]).tolist() == [0, 1]


def test_imagenet_elsewhere_says_what_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="train and val"):
        load("imagenet", tmp_path)
