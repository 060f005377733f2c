"""The commands a study consists of; each is keyed by its folder, and continues if repeated."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from phalanx.data.locate import load
from phalanx.diagnostics.attach import NOTE
from phalanx.reporting.audit import NOTE as AUDITED
from phalanx.runs.manifest import FILE_NAME
from phalanx.runs.provenance import canonical_json
from phalanx.runs.store import RunStore
from phalanx.studies.shelves import require_known, scale_named
from phalanx.studies.study import Audited, Method, Scale, Study, Training
from phalanx.training.folder import TrainingFolder
from phalanx.training.shelf import load_recipe

DIAGNOSED = 100
"""Images at most that an ensemble is diagnosed on."""


@dataclass(frozen=True)
class Setting:
    """How a study is carried out.

    Attributes:
        study, scale: what, and how much of it.
        out: folder of everything that is made.
        data_dir: where the data are looked for.
        seeds: of the trainings.
        precision: of certification; it belongs to the classifier.
        device: words that choose one.
        workers: processes that share a training or a certification; None: as their commands
            choose.
    """

    study: Study
    scale: Scale
    out: Path
    data_dir: Path | None = None
    seeds: Sequence[int] = (0,)
    precision: str = "fp32"
    device: tuple[str, ...] = ()
    workers: int | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """Further words of a training or a certification."""
        workers = () if self.workers is None else ("--workers", str(self.workers))
        return (*self.device, *workers)

    def models(self, training: str, sigma: float, seed: int) -> Path:
        """The folder of a training."""
        return self.out / "models" / f"{training}-{sigma:g}-seed{seed}"

    def run(self, method: str, sigma: float, seed: int) -> Path:
        """The folder of a certification."""
        return self.out / "runs" / f"{method}-{sigma:g}-seed{seed}"

    @cached_property
    def images(self) -> tuple[int, int]:
        """Which test images: one of so many, and how many."""
        return evenly(len(load(self.study.data, self.data_dir, "test")), self.scale.images)


@dataclass(frozen=True)
class Step:
    """One command.

    Attributes:
        words: what follows ``phalanx``.
        says: in a few words, what it is.
        done: whether there is nothing left to do.
        before: saves the command work that another one did.
        after: the folders of the steps that come first; `makes` names this one's.
    """

    words: tuple[str, ...]
    says: str
    done: Callable[[], bool]
    makes: Path
    after: tuple[Path, ...] = ()
    before: Callable[[], None] = lambda: None

    @property
    def command(self) -> str:
        """As it would be typed."""
        return shlex.join(["phalanx", *self.words])


def steps(setting: Setting) -> list[Step]:
    """All of a study, in an order in which each finds what it needs."""
    if setting.study.audit is not None:
        return [*_trainings(setting), *_audits(setting, setting.study.audit)]
    return [*_trainings(setting), *_certifications(setting), *_diagnoses(setting)]


def is_certified(folder: Path, images: int) -> bool:
    """Whether a run has finished so many images."""
    if not (folder / FILE_NAME).exists():
        return False
    with RunStore.open(folder) as run:
        return len(run.finished()) >= images


def has_note(folder: Path, note: str) -> bool:
    """Whether a run has a note: what its members have in common, or what its audit found."""
    if not (folder / FILE_NAME).exists():
        return False
    with RunStore.open(folder) as run:
        return run.get_meta(note) is not None


def _trainings(setting: Setting) -> Iterator[Step]:
    firsts: dict[str, Path] = {}
    for name, training in setting.study.trainings.items():
        for sigma in setting.study.levels(name):
            for seed in setting.seeds:
                changes = changes_of(training, sigma, seed, setting.scale)
                folder = setting.models(name, sigma, seed)
                words = ["train", training.recipe, *places(setting.data_dir, folder)]
                for change in changes:
                    words += ["--set", change]
                recipe = load_recipe(training.recipe, changes)
                says = f"train {name}, sigma {sigma:g}, seed {seed}"
                done = partial(TrainingFolder(folder).has, range(recipe.members))
                before, after = Step.before, Step.after
                if first := recipe.first():
                    source = firsts.setdefault(canonical_json(first.as_dict()), folder)
                    before = partial(share_first, source, folder)
                    after = (source,) if source != folder else after
                yield Step((*words, *setting.words), says, done, folder, after, before)


def share_first(source: Path, folder: Path) -> None:
    """Copy a finished first stage of the same recipe: the same members, bit for bit."""
    there, here = (TrainingFolder(path).first().path for path in (source, folder))
    if here.exists() or source == folder or not (there / FILE_NAME).exists():
        return
    here.parent.mkdir(parents=True, exist_ok=True)
    partly = here.with_name(f".{here.name}")
    shutil.rmtree(partly, ignore_errors=True)
    shutil.copytree(there, partly)
    partly.rename(here)


def _certifications(setting: Setting) -> Iterator[Step]:
    study = setting.study
    every, images = setting.images
    for name, method in study.methods.items():
        for sigma in study.levels_of(name):
            for seed in setting.seeds:
                folder = setting.run(name, sigma, seed)
                models = setting.models(method.training, sigma, seed)
                words = ["certify", *_models(models, method), "--data", study.data]
                words += [
                    *places(setting.data_dir, folder),
                    "--n",
                    str(max(1, round(method.samples * setting.scale.n))),
                ]
                words += ["--every", str(every), "--limit", str(images)]
                words += ["--precision", setting.precision]
                words += ["--each"] if method.reducers else []
                for reducer in method.reducers:
                    words += ["--reducer", reducer]
                says = f"certify {name}, sigma {sigma:g}, seed {seed}"
                done = partial(is_certified, folder, images)
                yield Step((*words, *setting.words), says, done, folder, (models,))


def _audits(setting: Setting, audit: Audited) -> Iterator[Step]:
    study = setting.study
    every, images = setting.images
    for name, method in study.methods.items():
        for sigma, seed in product(study.levels_of(name), setting.seeds):
            folder = setting.run(name, sigma, seed)
            models = setting.models(method.training, sigma, seed)
            words = ["audit", *_models(models, method), "--data", study.data]
            words += [
                *places(setting.data_dir, folder),
                "--norm",
                audit.norm,
                "--eps",
                f"{audit.eps:g}",
            ]
            words += ["--effort", setting.scale.effort, "--reducer", audit.reducer]
            words += ["--every", str(every), "--limit", str(images)]
            done = partial(has_note, folder, AUDITED)
            says = f"audit {name}, seed {seed}"
            yield Step((*words, *setting.device), says, done, folder, (models,))


def _diagnoses(setting: Setting) -> Iterator[Step]:
    """What the members of every ensemble have in common, as a note of its run."""
    study = setting.study
    every, images = setting.images
    for name, method in study.methods.items():
        for sigma, seed in product(study.levels_of(name) if method.reducers else (), setting.seeds):
            folder = setting.run(name, sigma, seed)
            models = _models(setting.models(method.training, sigma, seed), method)
            words = ["diagnose", *models, "--data", study.data, *places(setting.data_dir, folder)]
            words += ["--every", str(every), "--limit", str(min(images, DIAGNOSED))]
            says = f"diagnose {name}, sigma {sigma:g}, seed {seed}"
            done = partial(has_note, folder, NOTE)
            yield Step((*words, *setting.device), says, done, folder / NOTE, (folder,))


def changes_of(training: Training, sigma: float, seed: int, scale: Scale) -> list[str]:
    """What is changed in a recipe, as ``--set`` takes it.

    What a recipe does by the epoch, a warm-up or a schedule in steps, is drawn together with
    its epochs.
    """
    changes: dict[str, Any] = {**training.changes, **training.by_sigma.get(sigma, {})}
    changes |= {**scale.changes, "loss.sigma": sigma, "seed": seed}
    recipe = load_recipe(training.recipe, texts_of(changes))
    epochs = scale.epochs_at(training.cost)
    if epochs is not None:
        share = epochs / recipe.epochs
        given = recipe.model_dump(include={"schedule", "loss"}, exclude_unset=True)
        changes |= {"epochs": epochs, **by_the_epoch(given, share)}
    if scale.pretrain_epochs is not None and recipe.pretrain is not None:
        share = scale.pretrain_epochs / recipe.pretrain.epochs
        given = recipe.pretrain.model_dump(exclude_unset=True)
        changes |= {"pretrain.epochs": scale.pretrain_epochs}
        changes |= by_the_epoch(given, share, "pretrain.")
    return texts_of(changes)


def by_the_epoch(given: Mapping[str, Any], share: float, place: str = "") -> dict[str, Any]:
    """``a.b_epochs`` of nested options, made shorter or longer.

    >>> by_the_epoch({"schedule": {"name": "step", "step_epochs": 50}, "loss": {"eta": 1}}, 0.25)
    {'schedule.step_epochs': 12}
    >>> by_the_epoch({"adversary": {"warmup_epochs": 3}}, 0.1, "loss.")
    {'loss.adversary.warmup_epochs': 0.3}
    """
    changes: dict[str, Any] = {}
    for name, value in given.items():
        if isinstance(value, Mapping):
            changes |= by_the_epoch(value, share, f"{place}{name}.")
        elif name == "step_epochs":
            changes[place + name] = max(1, round(share * value))
        elif name.endswith("_epochs"):
            changes[place + name] = round(share * value, 6)
    return changes


def texts_of(changes: dict[str, Any]) -> list[str]:
    """``a.b=c`` with the value as one line of YAML.

    >>> texts_of({"loss": {"name": "drt"}, "epochs": 3, "loss.sigma": 0.5})
    ['loss={name: drt}', 'epochs=3', 'loss.sigma=0.5']
    """
    return [
        f"{name}={yaml.safe_dump(value, default_flow_style=True, width=1 << 20).split(chr(10))[0]}"
        for name, value in changes.items()
    ]


def evenly(there: int, wanted: int | None) -> tuple[int, int]:
    """One of so many, and how many, to take that many evenly; None: all.

    >>> evenly(1000, 300), evenly(10, None), evenly(10, 50)
    ((3, 300), (1, 10), (1, 10))
    """
    count = min(wanted or there, there)
    return there // count, count


def places(data_dir: Path | None, folder: Path) -> list[str]:
    """Where a command finds its data, and where it puts what it makes."""
    data = ["--data-dir", str(data_dir)] if data_dir else []
    return [*data, "--out", str(folder)]


def _models(folder: Path, method: Method) -> list[str]:
    """What is certified, as MODEL words."""
    trained = TrainingFolder(folder)
    if method.stage == "pretrain":
        trained = trained.first()
    if method.members is None:
        return [str(trained.path)]
    return [str(trained.weights(member)) for member in range(method.members)]


def chosen(study: Study, sigmas: Sequence[float] | None, methods: Sequence[str] | None) -> Study:
    """The part of a study at some noise levels and of some methods, with what they are beside.

    Raises:
        ParameterError: the study has no such method or noise level.
    """
    known = {sigma for name in study.methods for sigma in study.levels_of(name)}
    require_known(study.name, "method", methods or (), list(study.methods))
    require_known(study.name, "sigma", sigmas or (), sorted(known))
    kept = set(methods or study.methods)
    kept |= {other for name in kept if (other := study.methods[name].beside)}
    wanted = known if sigmas is None else set(sigmas)
    here = {name: method for name, method in study.methods.items() if name in kept}
    trainings = {
        name: training.model_copy(
            update={"sigmas": tuple(s for s in study.levels(name) if s in wanted)}
        )
        for name, training in study.trainings.items()
        if any(method.training == name for method in here.values())
    }
    return study.model_copy(update={"methods": here, "trainings": trainings})


def scale_of(study: Study, name: str, changes: Sequence[str] = ()) -> Scale:
    """The scale of that name, after ``"epochs=30"`` and the like.

    Raises:
        ParameterError: the study has none.
        ConfigurationError: a change of what a scale does not have, or to what it cannot be.
    """
    either = {"epochs": "budget", "budget": "epochs"}  # they exclude each other: the last counts
    return scale_named(study.name, study.scales, name, changes, either)
