"""What images a folder has and which class each belongs to; opens no image, needs no Pillow.

Three layouts are read: one folder a class; images side by side with a label file (the
validation folder of ImageNet); images alone, which then have no labels.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from phalanx.data.files import read_bytes
from phalanx.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
SPLIT_FOLDERS = {"train": ("train",), "test": ("test", "val", "validation")}
IMAGENET_LABELS = "LOC_val_solution.csv"
IMAGENET_CLASSES = "LOC_synset_mapping.txt"
PLAIN_LABELS = "labels.txt"
MAX_LABEL_BYTES = 1 << 28


@dataclass(frozen=True)
class Listing:
    """Images of a folder in a fixed order.

    Attributes:
        paths: the images, sorted by name (class by class where there are class folders).
        labels: class indices, one an image, or None.
        class_names: names in index order; empty where the labels are numbers already.
    """

    paths: tuple[Path, ...]
    labels: tuple[int, ...] | None
    class_names: tuple[str, ...]

    def digest(self, root: Path) -> str:
        """SHA-256 of names, sizes and labels (reading 50,000 images would take minutes)."""
        hasher = hashlib.sha256()
        for index, path in enumerate(self.paths):
            label = "" if self.labels is None else self.labels[index]
            line = f"{path.relative_to(root).as_posix()}\t{path.stat().st_size}\t{label}\n"
            hasher.update(line.encode())
        return hasher.hexdigest()


def split_folder(root: Path, split: str) -> Path:
    """``root/train``, ``root/val`` and so on where there is one, else ``root`` itself."""
    for name in SPLIT_FOLDERS[split]:
        if (root / name).is_dir():
            return root / name
    return root


def list_images(folder: Path, root: Path) -> Listing:
    """The images of ``folder``; label files are looked for there and in ``root``.

    Raises:
        DataError: no images, images beside class folders, or images without a label where
            others have one.
    """
    flat = _images(folder)
    groups = sorted(entry for entry in folder.iterdir() if _is_class(entry))
    if flat and any(_images(group) for group in groups):
        raise DataError(
            f"{folder} has both images and folders of images",
            why="either the folders are the classes or there are none",
            repair=f"move {flat[0].name} away, or name the folder that has the images",
        )
    if groups and not flat:
        return _by_class(groups, folder)
    if not flat:
        raise DataError(
            f"{folder} has no images",
            why=f"neither folders of images, one a class, nor files {', '.join(SUFFIXES)}",
            repair="files in a data set's own format: --data NAME --data-dir DIR",
        )
    for name, read in ((IMAGENET_LABELS, _imagenet_labels), (PLAIN_LABELS, _plain_labels)):
        for place in (folder, root):
            if (place / name).is_file():
                return _labelled(flat, place / name, read(place / name))
    return Listing(flat, None, ())


def _images(folder: Path) -> tuple[Path, ...]:
    found = (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    return tuple(sorted(path for path in found if path.is_file()))


def _is_class(entry: Path) -> bool:
    return entry.is_dir() and not entry.name.startswith(".")


def _by_class(groups: list[Path], folder: Path) -> Listing:
    images = [_images(group) for group in groups]
    labels = tuple(index for index, paths in enumerate(images) for _ in paths)
    if not labels:
        raise DataError(
            f"the folders in {folder} have no images", why=f"files {', '.join(SUFFIXES)}"
        )
    paths = tuple(path for paths in images for path in paths)
    # an empty class folder keeps its index, so that the others keep theirs
    return Listing(paths, labels, tuple(group.name for group in groups))


def _labelled(flat: tuple[Path, ...], file: Path, labels: dict[str, str]) -> Listing:
    known = [labels.get(path.name, labels.get(path.stem)) for path in flat]
    missing = [path.name for path, label in zip(flat, known, strict=True) if label is None]
    if missing:
        raise DataError(
            f"{file} has no label for {len(missing)} of {len(flat)} images",
            why=f"the first is {missing[0]}",
        )
    named = [label for label in known if label is not None]
    if file.name == PLAIN_LABELS and all(label.isdecimal() for label in named):
        return Listing(flat, tuple(map(int, named)), ())
    names = _class_order(file, labels)
    index = {name: position for position, name in enumerate(names)}
    return Listing(flat, tuple(index[label] for label in named), names)


def _class_order(file: Path, labels: dict[str, str]) -> tuple[str, ...]:
    """Class identifiers in index order: sorted, from the mapping beside the file if there is one.

    ImageNet's indices are the positions of the sorted identifiers. Without the mapping the
    label file stands for all classes, which is true of the published one.
    """
    mapping = file.parent / IMAGENET_CLASSES
    if file.name != IMAGENET_LABELS or not mapping.is_file():
        return tuple(sorted(set(labels.values())))
    names = tuple(line.split(maxsplit=1)[0] for line in _lines(mapping))
    unknown = sorted(set(labels.values()) - set(names))
    if unknown:
        raise DataError(f"{file} names the class {unknown[0]!r}", why=f"{mapping} has no such one")
    return names


def _imagenet_labels(file: Path) -> dict[str, str]:
    """``ImageId,PredictionString`` lines; the class is the string's first word."""
    labels: dict[str, str] = {}
    for number, line in enumerate(_lines(file)[1:], start=2):
        image, _, boxes = line.partition(",")
        words = boxes.split()
        if not words:
            raise DataError(f"line {number} of {file} has no class", why=repr(line[:80]))
        labels[image.strip()] = words[0]
    return labels


def _plain_labels(file: Path) -> dict[str, str]:
    """``filename label`` lines."""
    labels: dict[str, str] = {}
    for number, line in enumerate(_lines(file), start=1):
        image, _, label = line.strip().rpartition(" ")
        if not image:
            raise DataError(
                f"line {number} of {file} is {line[:80]!r}", why="'filename label' was expected"
            )
        labels[image.strip()] = label
    return labels


def _lines(file: Path) -> list[str]:
    content, _ = read_bytes(file, limit=MAX_LABEL_BYTES)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 text", why=str(error)) from error
    return [line for line in text.splitlines() if line.strip()]
