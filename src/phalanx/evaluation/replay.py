"""Adversarial inputs as a file, and what any model says of them."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from phalanx.attacks.core import check_points
from phalanx.attacks.defences import Settings, target_of
from phalanx.data.dataset import Dataset
from phalanx.errors import DataError
from phalanx.evaluation.attack import score_again
from phalanx.models.model import Model
from phalanx.models.validate import validate
from phalanx.runs.adversaries import adversaries
from phalanx.runs.attacked import interval
from phalanx.runs.files import write_atomically
from phalanx.runs.statistics import Interval
from phalanx.runs.store import RunStore
from phalanx.runtime.device import resolve_device
from phalanx.specs.threat import Threat

FIELDS = ("adversarial", "clean", "index", "label", "success", "norm", "eps", "box")


@dataclass(frozen=True)
class Saved:
    """Points of an attack run: the worst input found for each, the clean one where none was.

    Attributes:
        adversarial, clean: float32 ``(B, *shape)``.
        index, label: int64 ``(B,)``.
        success: bool ``(B,)``, of the classifier that was attacked.
        threat: within which.
    """

    adversarial: NDArray[np.float32]
    clean: NDArray[np.float32]
    index: NDArray[np.int64]
    label: NDArray[np.int64]
    success: NDArray[np.bool_]
    threat: Threat


@dataclass(frozen=True)
class Replayed:
    """What a classifier says of saved inputs.

    Attributes:
        points: how many.
        clean, robust: (expected) accuracy on clean and on adversarial inputs.
        intervals: 95% over points.
        transferred: share of the inputs that broke the attacked classifier and break this one, of
            those whose clean input it gets right; None without any.
        outside: inputs that are not in the ball and box they claim.
        judged: draws of an answer; None: exact.
    """

    points: int
    clean: float
    robust: float
    intervals: dict[str, Interval]
    transferred: float | None
    outside: int
    judged: int | None

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "points": self.points,
            "clean_accuracy": self.clean,
            "robust_accuracy": self.robust,
            "intervals": {name: list(pair) for name, pair in self.intervals.items()},
            "transferred": self.transferred,
            "outside_of_the_ball": self.outside,
            "judged_by_draws": self.judged,
        }

    def lines(self) -> list[str]:
        """Plain text."""
        low, high = self.intervals["robust_accuracy"]
        said = [
            f"{self.points} points: accuracy {100 * self.clean:.2f}%, on the saved inputs"
            f" {100 * self.robust:.2f}% [{100 * low:.1f}, {100 * high:.1f}]"
        ]
        if self.transferred is not None:
            said.append(f"of the inputs that broke the attacked model, {self.transferred:.1%} do")
        if self.outside:
            said.append(f"{self.outside} inputs lie outside of the ball or box they claim")
        return said


def save_adversaries(store: RunStore, dataset: Dataset, path: Path) -> None:
    """Write the points of an attack run to an ``.npz`` of plain arrays, whole or not at all."""
    found, config = adversaries(store), store.manifest.config
    records = [record for record in store.certificates() if record.details]
    index = [record.image for record in records]
    clean = dataset.images(index).numpy().astype(np.float32)
    worst = clean.copy()
    for row, image in enumerate(index):
        if image in found:
            worst[row] = found[image].values
    stream = BytesIO()
    np.savez_compressed(
        stream,
        adversarial=worst,
        clean=clean,
        index=np.array(index, np.int64),
        label=dataset.labels(index).numpy().astype(np.int64),
        success=np.array([record.details["success"] for record in records], np.bool_),
        norm=np.array(config["norm"]),
        eps=np.array(config["eps"]),
        box=np.array(config["box"]),
    )
    write_atomically(path, stream.getvalue())


def load_adversaries(path: Path) -> Saved:
    """Read such a file; nothing in it is executed.

    Raises:
        DataError: it is none, or its arrays do not fit together.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            missing = [name for name in FIELDS if name not in arrays]
            if missing:
                raise DataError(
                    f"{path} has no {', '.join(missing)}", repair="phalanx attack --save"
                )
            values = {name: arrays[name] for name in FIELDS}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read", why=str(error)) from error
    rows = len(values["index"])
    shapes = {values[name].shape for name in ("adversarial", "clean")}
    flat = all(values[name].shape == (rows,) for name in ("index", "label", "success"))
    if len(shapes) != 1 or next(iter(shapes))[:1] != (rows,) or not flat:
        raise DataError(f"the arrays of {path} do not speak of the same points")
    low, high = (float(side) for side in values["box"])
    return Saved(
        adversarial=values["adversarial"].astype(np.float32),
        clean=values["clean"].astype(np.float32),
        index=values["index"].astype(np.int64),
        label=values["label"].astype(np.int64),
        success=values["success"].astype(np.bool_),
        threat=Threat(str(values["norm"]), float(values["eps"]), low, high),
    )


def replayed(
    models: Sequence[Model],
    saved: Saved,
    settings: Settings,
    *,
    reducer: str = "mean",
    device: str = "auto",
) -> Replayed:
    """Score saved inputs with a classifier, which need not be the one they were found against.

    Raises:
        ModelError, DataError, ParameterError: they do not fit.
    """
    place = resolve_device(device)
    for model in models:
        validate(model)
        model.to(place)
    clean, worst = torch.from_numpy(saved.clean), torch.from_numpy(saved.adversarial)
    labels = torch.from_numpy(saved.label)
    target = target_of(models, settings, reducer=reducer, probe=clean[:4].to(place))
    numbers = saved.index.tolist()
    for x in (clean, worst):
        check_points(target, saved.threat, x, labels, numbers)
    before = score_again(target, clean, labels, numbers).numpy()
    after = score_again(target, worst, labels, numbers).numpy()
    asked = saved.success & (before > 0)
    inside = saved.threat.contains(clean, worst)
    return Replayed(
        points=len(numbers),
        clean=float(before.mean()),
        robust=float(after.mean()),
        intervals={"clean_accuracy": interval(before), "robust_accuracy": interval(after)},
        transferred=float((after[asked] < before[asked]).mean()) if asked.any() else None,
        outside=int((~inside).sum()),
        judged=target.judged,
    )
