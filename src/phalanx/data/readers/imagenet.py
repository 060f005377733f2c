"""ImageNet (ILSVRC 2012) as its users keep it: ``train`` and ``val`` below one folder.

The validation images lie in class folders, or flat beside their label file; see
`phalanx.data.readers.folder` for both and for the preprocessing.
"""

from __future__ import annotations

from pathlib import Path

from phalanx.data.dataset import Dataset, readers
from phalanx.data.folders import search_folders
from phalanx.data.readers.folder import folder_of_images
from phalanx.errors import DataError

PLACES = ("imagenet", "ImageNet", "ILSVRC2012", ".")
SPLITS = ("val", "train")


@readers.register("imagenet")
def imagenet(folder: Path | None, split: str) -> Dataset:
    """The images below the first folder that has ``val`` or ``train``.

    Raises:
        DataError: there is none; ImageNet has to be fetched by hand, its owners ask for it.
    """
    places = [root / place for root in search_folders(folder) for place in PLACES]
    for place in places:
        if any((place / name).is_dir() for name in SPLITS):
            return folder_of_images(place, split)
    looked = ", ".join(str(root) for root in search_folders(folder))
    raise DataError(
        f"ImageNet was not found in {looked}",
        why="a folder with train and val is looked for; it cannot be downloaded for you",
        repair="--data-dir DIR, where DIR or DIR/imagenet holds train and val",
    )
