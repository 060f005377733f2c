"""What a study found, beside what was published; read from its runs, as far as they are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from phalanx.diagnostics.attach import NOTE
from phalanx.reporting.published import GAUSSIAN, PublishedCurve, figures
from phalanx.reporting.tables import best_member
from phalanx.runs.compare import Comparison, Side, compare
from phalanx.runs.manifest import FILE_NAME
from phalanx.runs.query import Summary, cap_of, radius_key, summarise
from phalanx.runs.store import RunStore
from phalanx.studies.steps import Setting
from phalanx.studies.study import Method

CONDITIONS = {"softmax": "weighted"}
"""What DRT's conditions call a decision, where they call it otherwise."""
MEMBER = "member"
"""What the best member is called where a row needs a name that holds for every seed."""


@dataclass(frozen=True)
class Row:
    """One classifier of a method at one noise level.

    Attributes:
        method, classifier, sigma: which; the classifier is ``model``, a reducer or `MEMBER`.
        seeds: that are finished.
        summaries: for each of them.
        minus: by seed, this row minus that of another method (or the best member).
        other: what is subtracted.
        published: what the literature reports.
        diagnosis: by seed, what the members have in common (`phalanx diagnose`).
        trained: how the members were trained.
        cap: the largest radius that the samples of its runs can give; None: not known.
    """

    method: str
    classifier: str
    sigma: float
    seeds: tuple[int, ...]
    summaries: tuple[Summary, ...]
    minus: Mapping[int, Comparison]
    other: str
    published: PublishedCurve | None
    diagnosis: Mapping[int, Mapping[str, Any]]
    trained: Mapping[str, Any]
    cap: float | None = None

    @property
    def title(self) -> str:
        """As tables show it."""
        return self.method if self.classifier == "model" else f"{self.method}, {self.classifier}"

    @property
    def acr(self) -> float:
        """Average certified radius, mean over seeds."""
        return fmean(summary.average_certified_radius or 0.0 for summary in self.summaries)

    def at(self, radius: float) -> float:
        """Certified accuracy, mean over seeds."""
        return fmean(summary.at(radius).value for summary in self.summaries)

    def as_json(self, radii: Sequence[float]) -> dict[str, Any]:
        """JSON values, one list entry a seed."""
        keys = {radius_key(radius): radius for radius in radii}
        value: dict[str, Any] = {
            "method": self.method,
            "classifier": self.classifier,
            "sigma": self.sigma,
            "seeds": list(self.seeds),
            "images": self.summaries[0].images,
            "average_certified_radius": [s.average_certified_radius for s in self.summaries],
            "clean_accuracy": [s.clean_accuracy for s in self.summaries],
            "abstained": [s.abstained for s in self.summaries],
            "certified_accuracy": {
                key: [s.at(radius).value for s in self.summaries] for key, radius in keys.items()
            },
            "trained": dict(self.trained),
            "largest_radius": self.cap,
        }
        if self.minus:
            by_seed = {str(seed): pair.as_json() for seed, pair in self.minus.items()}
            value["minus"] = {"what": self.other, "by_seed": by_seed}
        if self.diagnosis:
            value["diagnosis"] = {str(seed): dict(note) for seed, note in self.diagnosis.items()}
        if self.published:
            value["published"] = {
                "average_certified_radius": self.published.acr,
                "certified_accuracy": {
                    key: self.published.certified.get(radius) for key, radius in keys.items()
                },
                "source": self.published.source,
                "caution": self.published.caution,
            }
        return value


@dataclass(frozen=True)
class Envelope:
    """A classifier of a method at the best noise level of every radius, as some papers show it.

    Attributes:
        title: of its rows.
        certified: accuracy by radius, mean over seeds, and the noise level it is of.
        published: what the literature reports so.
    """

    title: str
    certified: Mapping[float, tuple[float, float]]
    published: PublishedCurve | None

    def as_json(self) -> dict[str, Any]:
        """JSON values by radius."""
        known = {} if self.published is None else self.published.certified
        return {
            "title": self.title,
            "certified_accuracy": {radius_key(r): at for r, (at, _) in self.certified.items()},
            "sigma": {radius_key(r): sigma for r, (_, sigma) in self.certified.items()},
            "published": {radius_key(r): known.get(r) for r in self.certified},
            "source": None if self.published is None else self.published.source,
        }


def rows(setting: Setting) -> list[Row]:
    """Every classifier of every method and noise level with a finished run."""
    found: list[Row] = []
    for name in setting.study.methods:
        for sigma in setting.study.levels_of(name):
            with ExitStack() as stack:
                runs = {
                    seed: run
                    for seed in setting.seeds
                    if (run := finished(setting, name, sigma, seed, stack)) is not None
                }
                if runs:
                    found.extend(_rows(setting, name, sigma, runs, stack))
    return found


def finished(
    setting: Setting, method: str, sigma: float, seed: int, stack: ExitStack
) -> RunStore | None:
    """The run of a method, if every image of it is certified; open until ``stack`` ends."""
    folder = setting.run(method, sigma, seed)
    if not (folder / FILE_NAME).exists():
        return None
    run = stack.enter_context(RunStore.open(folder))
    return run if len(run.finished()) >= setting.images[1] else None


def _rows(
    setting: Setting, name: str, sigma: float, runs: Mapping[int, RunStore], stack: ExitStack
) -> Iterator[Row]:
    study, method = setting.study, setting.study.methods[name]
    others = {
        seed: run
        for seed in runs
        if method.beside
        and (run := finished(setting, method.beside, sigma, seed, stack)) is not None
    }
    first = next(iter(runs))
    trained = trained_how(setting.models(method.training, sigma, first), method)
    for classifier in classifiers(method):
        names = {seed: _in(run, classifier) for seed, run in runs.items()}
        minus: dict[int, Comparison] = {}
        for seed, run in runs.items():
            against = others.get(seed) if method.beside else run
            base = None if against is None else _base(against, classifier, method)
            if against is not None and base is not None:
                sides = Side.of(run, names[seed]), Side.of(against, base)
                minus[seed] = compare(*sides, radii=study.radii)
        yield Row(
            name,
            classifier,
            sigma,
            tuple(runs),
            tuple(summarise(run, names[seed], study.radii) for seed, run in runs.items()),
            minus,
            method.beside or "best member",
            published(setting, method, classifier, sigma),
            _diagnoses(runs, classifier),
            trained,
            cap_of(runs[first].manifest.config),
        )


def _diagnoses(runs: Mapping[int, RunStore], classifier: str) -> dict[int, dict[str, Any]]:
    """Of an ensemble; its members have none of their own."""
    if classifier in (MEMBER, "model"):
        return {}
    notes = {seed: run.get_meta(NOTE) for seed, run in runs.items()}
    return {seed: diagnosis(note, classifier) for seed, note in notes.items() if note}


def diagnosis(note: Mapping[str, Any], classifier: str) -> dict[str, Any]:
    """The figures of a note of `phalanx diagnose` that a table has room for.

    ``zeta``: correlation of the members' margins over noise. ``gain``: radius of all members
    over that of one, predicted and measured. ``margin``, ``gradient``, ``sufficient``: means of
    DRT's conditions for this decision, where they speak of it; ``cosine``: of the members'
    margin gradients; ``transfer``: of attacks from one to another.
    """
    last = note["radius_gain"][-1]
    value = {"zeta": note["zeta_noise"], "gain": [last["predicted"], last["measured"]]}
    for row in note.get("conditions", {}).get("rows", ()):
        if row["classifier"] == CONDITIONS.get(classifier, classifier):
            value |= {key: row[key] for key in ("margin", "gradient", "sufficient")}
            value["cosine"] = note["conditions"].get("cosine")
    if "transfer" in note:
        value["transfer"] = note["transfer"]["mean"]
    return value


def classifiers(method: Method) -> list[str]:
    """The decisions of a method: the best member first, then each reducer."""
    return [MEMBER, *method.reducers] if method.reducers else ["model"]


def _in(run: RunStore, classifier: str) -> str:
    """What a classifier is called in a run."""
    if classifier == MEMBER:
        names = [record.name for record in run.manifest.classifiers]
        return best_member(run, [summarise(run, one) for one in names]) or names[0]
    if classifier == "model":
        return run.manifest.classifiers[0].name
    return classifier


def _base(run: RunStore, classifier: str, method: Method) -> str | None:
    """What is subtracted: the same decision of another method, or here the best member."""
    if method.beside:
        return _in(run, classifier)
    return None if classifier in (MEMBER, "model") else _in(run, MEMBER)


def published(
    setting: Setting, method: Method, classifier: str, sigma: float | None
) -> PublishedCurve | None:
    """The literature's figure for the same data, network, training and noise level."""
    study = setting.study
    # A leaderboard does not say the noise, and its rows have no network.
    known = [
        curve
        for curve in figures(study.data, sigma, noise=None)
        if curve.noise in {GAUSSIAN, ""}
        and curve.network == study.network
        and study.source in curve.source
    ]
    for name in method.published.get(classifier, ()):
        for curve in known:
            if curve.training == name:
                return curve
    return None


def trained_how(folder: Path, method: Method) -> dict[str, Any]:
    """Epochs, time, device and arithmetic of a training of ours."""
    stages = [folder / "pretrain"] if (folder / "pretrain").exists() else []
    stages += [] if method.stage == "pretrain" else [folder]
    value: dict[str, Any] = {"epochs": 0, "seconds": 0.0}
    for stage in stages:
        if not (stage / FILE_NAME).exists():
            return {}
        manifest = json.loads((stage / FILE_NAME).read_text())
        log = [json.loads(line) for line in (stage / "training.jsonl").read_text().splitlines()]
        value["epochs"] += manifest["config"]["recipe"]["epochs"]
        value["seconds"] = round(value["seconds"] + sum(row["seconds"] for row in log), 1)
        value["precision"] = manifest["config"]["precision"]
        value["device"] = manifest["environment"]["device"]
    return value


def envelopes(setting: Setting, found: Sequence[Row]) -> list[Envelope]:
    """Of every classifier that has a row at each of the method's noise levels."""
    study = setting.study
    result = []
    for name, method in study.methods.items():
        for classifier in classifiers(method):
            same = [row for row in found if (row.method, row.classifier) == (name, classifier)]
            if len(same) < len(study.levels_of(name)):
                continue
            best = {r: max((row.at(r), row.sigma) for row in same) for r in study.radii}
            curve = published(setting, method, classifier, None)
            result.append(Envelope(same[0].title, best, curve))
    return result
