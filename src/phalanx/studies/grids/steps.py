"""The commands a grid consists of; each is keyed by its folder, and continues if repeated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product
from math import prod
from pathlib import Path

from phalanx.data.locate import load
from phalanx.studies.grids.grid import SMOOTHING, Grid, GridMethod, GridScale
from phalanx.studies.steps import Step, by_the_epoch, evenly, is_certified, places, texts_of
from phalanx.training.folder import TrainingFolder
from phalanx.training.shelf import load_recipe


@dataclass(frozen=True)
class Entry:
    """One figure of a grid: a network, how it was trained, how it is certified, and where.

    ``eps`` None: its largest certified radius is searched for, image by image.
    """

    network: str
    training: str
    method: str
    norm: str
    eps: float | None


@dataclass(frozen=True)
class GridSetting:
    """How a grid is carried out.

    Attributes:
        grid, scale: what, and how much of it (the scale's networks are chosen by `part_of`).
        out: folder of everything that is made.
        data_dir: where the data are looked for.
        seed: of the trainings.
        words: further words of every command.
    """

    grid: Grid
    scale: GridScale
    out: Path
    data_dir: Path | None = None
    seed: int = 0
    words: tuple[str, ...] = ()

    def model(self, network: str, training: str) -> Path:
        """The folder of a training."""
        return self.out / "models" / f"{network}-{training}-seed{self.seed}"

    def run(self, entry: Entry) -> Path:
        """The folder of a certification."""
        where = "radius" if entry.eps is None else f"{entry.eps:.6g}"
        if self.grid.methods[entry.method].method == SMOOTHING:
            where = "l2"  # its radii are l2, and speak of every other norm
        else:
            where = f"{entry.norm}-{where}"
        method = self.grid.methods[entry.method].runs_as or entry.method
        return self.out / "runs" / f"{entry.network}-{entry.training}-{method}-{where}"

    @cached_property
    def images(self) -> tuple[int, int]:
        """Which test images: one of so many, and how many."""
        return evenly(len(load(self.grid.data, self.data_dir, "test")), self.scale.images)

    @cached_property
    def pixels(self) -> int:
        """Numbers of one input."""
        return prod(load(self.grid.data, self.data_dir, "test").card.shape)


def entries(setting: GridSetting) -> Iterator[Entry]:
    """All figures of a grid, in the order of its file."""
    grid = setting.grid
    for training, trained in grid.trainings.items():
        for norm, radii in trained.at.items():
            asked = [*radii, None] if setting.scale.radii else radii
            for name, network, eps in product(grid.methods, grid.networks, asked):
                if grid.goes(name, network, training, norm, search=eps is None):
                    yield Entry(network, training, name, norm, eps)


def grid_steps(setting: GridSetting) -> list[Step]:
    """All commands of a grid: trainings first, each certification after its own."""
    trainings = [
        _training(setting, network, training)
        for training in setting.grid.trainings
        for network in setting.grid.networks
    ]
    certifications: dict[Path, Entry] = {}
    for entry in entries(setting):
        certifications.setdefault(setting.run(entry), entry)
    return [*trainings, *(_certification(setting, one) for one in certifications.values())]


def recipe_changes(setting: GridSetting, network: str, training: str) -> list[str]:
    """What is changed in a training's recipe, as ``--set`` takes it."""
    grid = setting.grid
    trained, model = grid.trainings[training], grid.networks[network].model
    options = {**model.get("options", {}), **trained.changes.get("model.options", {})}
    changes = {k: v for k, v in trained.changes.items() if k != "model.options"}
    changes |= {"model": {**model, "options": options}, "members": 1, "seed": setting.seed}
    changes["loss.sigma"] = trained.sigma
    if setting.scale.epochs is not None:
        recipe = load_recipe(trained.recipe, texts_of(changes))
        given = recipe.model_dump(include={"schedule", "loss"}, exclude_unset=True)
        share = setting.scale.epochs / recipe.epochs
        changes |= {"epochs": setting.scale.epochs, **by_the_epoch(given, share)}
    return texts_of(changes)


def _training(setting: GridSetting, network: str, training: str) -> Step:
    folder = setting.model(network, training)
    words = ["train", setting.grid.trainings[training].recipe, *places(setting.data_dir, folder)]
    for change in recipe_changes(setting, network, training):
        words += ["--set", change]
    done = partial(TrainingFolder(folder).has, range(1))
    return Step((*words, *setting.words), f"train {network}, {training}", done, folder)


def _certification(setting: GridSetting, entry: Entry) -> Step:
    grid, folder = setting.grid, setting.run(entry)
    model = setting.model(entry.network, entry.training)
    every, images = setting.images
    words = ["certify", str(model), "--data", grid.data, *places(setting.data_dir, folder)]
    words += ["--every", str(every), "--limit", str(images)]
    words += _how(setting, entry, grid.methods[entry.method])
    says = f"certify {entry.network}, {entry.training}, by {entry.method}"
    says += f", {entry.norm} {'radii' if entry.eps is None else f'{entry.eps:.4g}'}"
    done = partial(is_certified, folder, images)
    return Step((*words, *setting.words), says, done, folder, (model,))


def _how(setting: GridSetting, entry: Entry, method: GridMethod) -> Sequence[str]:
    if method.method == SMOOTHING:
        return ["--n", str(setting.scale.n)]
    words = ["--method", method.method, "--norm", entry.norm]
    words += ["--radius", "search"] if entry.eps is None else ["--eps", repr(entry.eps)]
    options = dict(method.options)
    if setting.scale.seconds is not None and "seconds" in options:
        options["seconds"] = setting.scale.seconds
    for change in texts_of(options):
        words += ["--set", change]
    return words
