"""Why an image has the radius it has, and what would raise it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from phalanx.errors import RunError
from phalanx.runs.arithmetic import lower_limit
from phalanx.runs.choices import floor_of, restrictions, top_of
from phalanx.runs.double_sampling import second_law_lines
from phalanx.runs.evidence import Evidence, evidence_of, phases_of
from phalanx.runs.export import truncated
from phalanx.runs.gradient import slope_limit
from phalanx.runs.lattice import NOTHING, Charges, charges, coverage
from phalanx.runs.manifest import BOUNDS, require_certifying
from phalanx.runs.query import cap_of, require_classifier
from phalanx.runs.radii import certified_radius
from phalanx.runs.schema import (
    ESTIMATION,
    INVALID,
    SECOND_LAW,
    SELECTION,
    CertificateRecord,
    Counts,
)
from phalanx.runs.sequential import ANYTIME, FIXED, STAGED
from phalanx.runs.statistics import Interval, clopper_pearson
from phalanx.runs.store import RunStore
from phalanx.verdicts import Verdict

MORE = 10
_CLASSES_SHOWN = 5
NEYMAN_PEARSON = "neyman-pearson"
_ANYTIME = "a bound that holds at every number of samples,"
_BOUNDS = {
    FIXED: "one-sided Clopper-Pearson",
    STAGED: "one-sided Clopper-Pearson, a share for each stage,",
    **dict.fromkeys(ANYTIME, _ANYTIME),
}
_NEAR_CAP = 0.95


@dataclass(frozen=True)
class Explanation:
    """One certificate, taken apart.

    Attributes:
        certificate: as stored.
        label: None without one.
        sigma, alpha, norm, arithmetic: of the run, None where it does not say.
        selection, estimation: votes by class (empty where unknown).
        runner_up: class with most estimation votes beside the selected one, and its votes.
        share, share_interval: n_A / n with its two-sided 95% Clopper-Pearson interval: the
            estimate of p_A, the chance of that class under noise.
        cap: the largest radius n and alpha can give.
        radius_with_more: the radius if 10 times the samples showed the same share.
        advice: what would raise the radius, most useful first.
        rule, certificate_rule: the run's stopping rule, and its rule from p_lower to a radius.
        covers: on a lattice, its step and the inputs that are covered.
        charged: what the arithmetic takes off bound and radius.
        top: k, where the certificate says that a class stays among the k most likely.
        restrictions: what the base classifier leaves out or merges, in words.
        slope: the bound on the slope behind a gradient certificate, rounded; None for others.
        second: votes by class under the second law of double sampling.
    """

    certificate: CertificateRecord
    label: int | None
    sigma: float | None
    alpha: float | None
    norm: str | None
    arithmetic: str | None
    selection: Counts
    estimation: Counts
    runner_up: tuple[int, int] | None
    share: float | None
    share_interval: Interval | None
    cap: float | None
    radius_with_more: float | None
    advice: tuple[str, ...]
    rule: str = FIXED
    certificate_rule: str | None = None
    slope: float | None = None
    covers: str = ""
    charged: Charges = NOTHING
    second: Counts = field(default_factory=dict)
    top: int = 1
    restrictions: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """JSON values; what is not known is null."""
        record = self.certificate
        return {
            "classifier": record.classifier,
            "image": record.image,
            "label": self.label,
            "verdict": record.verdict.value,
            "predicted": record.predicted,
            "correct": record.correct,
            "radius": record.radius,
            "reason": record.reason,
            "n_a": record.n_a,
            "n": record.n,
            "p_lower": record.p_lower,
            "slope": self.slope,
            "p_a": self.share,
            "p_a_interval": self.share_interval,
            "sigma": self.sigma,
            "alpha": self.alpha,
            "norm": self.norm,
            "arithmetic": self.arithmetic,
            "top": self.top,
            "restrictions": list(self.restrictions),
            "covers": self.covers or None,
            "charged": self.charged._asdict(),
            "runner_up": self.runner_up,
            "cap": self.cap,
            f"radius_with_{MORE}n": self.radius_with_more,
            "selection": {str(key): count for key, count in self.selection.items()},
            "estimation": {str(key): count for key, count in self.estimation.items()},
            "second_law": {str(key): count for key, count in self.second.items()},
            "details": dict(record.details),
            "advice": list(self.advice),
        }

    def _formula(self) -> str:
        if self.slope is not None:
            return f"of a class whose slope is at most {self.slope:.4f}"
        if self.second:
            return "of both laws"
        if self.top > 1:
            return f"by {self.certificate_rule}, for the {self.top} most likely classes"
        tight = self.certificate_rule in {None, NEYMAN_PEARSON} and self.norm in {None, "l2"}
        return "= sigma * Phi^-1(p_lower)" if tight else f"by {self.certificate_rule}"

    def lines(self) -> list[str]:
        """The explanation as text, one thought a line."""
        record = self.certificate
        known = "no label" if self.label is None else f"label {self.label}"
        outcome = _outcome(record, self.top)
        text = [f"image {record.image} ({known}) by {record.classifier!r}: {outcome}"]
        text += [f"classes     {said}" for said in self.restrictions]
        votes = (
            (SELECTION, self.selection),
            (ESTIMATION, self.estimation),
            (SECOND_LAW, self.second),
        )
        text += [f"{phase:<11} {_votes(counts)}" for phase, counts in votes if counts]
        if self.share is not None and self.share_interval is not None:
            low, high = self.share_interval
            text.append(
                f"p_A         {record.n_a} of {record.n} = {self.share:.5f}, "
                f"95% interval [{low:.5f}, {high:.5f}]"
            )
        if record.p_lower is not None:
            alpha = record.details.get("alpha", {}).get("p", self.alpha)
            text.append(
                f"p_lower     {truncated(record.p_lower, 6)}: {_BOUNDS.get(self.rule, '')} at "
                f"alpha {alpha:g}; radius {self._formula()}, sigma {self.sigma:g}"
            )
        text += second_law_lines(record.details)
        if self.norm is not None and self.arithmetic is not None:
            on = f" ({self.covers})" if self.covers else ""
            text.append(
                f"claim       {self.norm} distance in input units, {self.arithmetic} arithmetic{on}"
            )
        if self.covers:
            text.append(
                f"charged     {self.charged.probability:.2g} of p_lower and"
                f" {self.charged.distance:.4g} of the radius, for sampler and lattice"
            )
        if self.cap is not None:
            text.append(f"cap         {truncated(self.cap, 4)}: what n unanimous votes would give")
        if self.radius_with_more is not None:
            more = truncated(self.radius_with_more, 4)
            text.append(
                f"{MORE} n        {more}: the radius if {MORE} times the samples agreed alike"
            )
        return text + [f"to raise it: {advice}" for advice in self.advice]


def explain(run: RunStore, image: int, classifier: str | None = None) -> Explanation:
    """Explain one certificate of a run.

    Args:
        run: a store.
        image: index in the data set.
        classifier: a name in the run; None for the primary one.

    Raises:
        RunError: no such classifier, or no certificate for that image.
    """
    require_certifying(run.manifest, run.folder)
    if run.manifest.kind == BOUNDS:
        raise RunError("bounds have no votes", repair="phalanx.runs.bounded.explain_bounded")
    name = require_classifier(run, classifier)
    found = run.certificates(name, image)
    if not found:
        raise RunError(
            f"{name!r} has no certificate for image {image}",
            why=f"the run has {len(run.certificates(name))} of them",
            repair="phalanx runs export RUN --format tsv lists the images",
        )
    record = found[0]
    phases, config = phases_of(run.chunks(image)), run.manifest.config
    label, top = run.labels().get(image), top_of(config)
    votes = evidence_of(record, phases, config, label) if phases else Evidence()
    selection, estimation = _ranked(votes.selection), _ranked(votes.estimation)
    cap, rule = cap_of(config), config.get("stop", FIXED)
    slope = _slope(run, record)
    named = label if top > 1 else None
    selected = _selected(record, selection) if named is None else named
    differ = named is None and _leads_differ(estimation, selected)
    plain = cap is not None and rule == FIXED and slope is None
    more = _with_more(record, config) if plain else None
    return Explanation(
        certificate=record,
        label=label,
        sigma=config.get("sigma"),
        alpha=config.get("alpha"),
        norm=config.get("norm"),
        arithmetic=config.get("arithmetic"),
        selection=selection,
        estimation=estimation,
        runner_up=_runner_up(estimation, selected),
        share=_share(record),
        share_interval=_share_interval(record),
        cap=cap,
        radius_with_more=more,
        advice=(*_ended(record, rule), *_advice(record, cap, more, floor_of(config), differ)),
        rule=rule,
        certificate_rule=config.get("certificate"),
        slope=slope,
        covers=coverage(config),
        charged=charges(config),
        second=_ranked(votes.second_counts),
        top=top,
        restrictions=tuple(restrictions(config)),
    )


def _slope(run: RunStore, record: CertificateRecord) -> float | None:
    config, noise = run.manifest.config, run.slopes().get((record.image, record.classifier))
    if noise is None or record.p_lower is None:
        return None
    return slope_limit(noise, 1 - record.p_lower, config["alpha"] * config["slope"])


def _ranked(counts: Counts) -> dict[int, int]:
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def _votes(counts: Counts) -> str:
    shown = [
        f"{count} for {'non-finite logits' if label == INVALID else f'class {label}'}"
        for label, count in list(counts.items())[:_CLASSES_SHOWN]
    ]
    rest = sum(list(counts.values())[_CLASSES_SHOWN:])
    return ", ".join(shown + ([f"{rest} for other classes"] if rest else []))


def _outcome(record: CertificateRecord, top: int) -> str:
    if record.verdict is Verdict.ERROR:
        return f"an error, which certifies nothing: {record.reason or 'no reason stored'}"
    if record.verdict is Verdict.ABSTAINED or record.radius is None:
        if top > 1:
            return f"abstained: the votes do not show the class among the {top} most likely"
        return "abstained: the votes do not show that one class has more than half of the noise"
    right = {True: "correct", False: "wrong", None: "not labelled"}[record.correct]
    shown = record.radius_text or truncated(record.radius, 4)
    stays = "" if top == 1 else f" to be among the {top} most likely classes"
    return f"class {record.predicted} ({right}), certified{stays} within radius {shown}"


def _selected(record: CertificateRecord, selection: Counts) -> int | None:
    """The class the estimation was about; an abstention's is that of its selection votes."""
    if record.predicted is not None:
        return record.predicted
    classes = {label: count for label, count in selection.items() if label != INVALID}
    return min(classes, key=lambda label: (-classes[label], label)) if classes else None


def _runner_up(estimation: Counts, selected: int | None) -> tuple[int, int] | None:
    rest = [(label, n) for label, n in estimation.items() if label not in {selected, INVALID}]
    return rest[0] if rest else None


def _share(record: CertificateRecord) -> float | None:
    return record.n_a / record.n if record.n_a is not None and record.n else None


def _share_interval(record: CertificateRecord) -> Interval | None:
    return clopper_pearson(record.n_a, record.n) if record.n_a is not None and record.n else None


def _with_more(record: CertificateRecord, config: Mapping[str, Any]) -> float | None:
    if record.n_a is None or not record.n:
        return None
    taken = charges(config)
    p_lower = lower_limit(MORE * record.n_a, MORE * record.n, config["alpha"]) - taken.probability
    return max(0.0, certified_radius(p_lower, config, config["sigma"]) - taken.distance)


def _ended(record: CertificateRecord, rule: str) -> list[str]:
    if rule not in {"anytime", STAGED} or record.verdict is Verdict.ERROR:
        return []
    return [
        f"sampling ended after {record.n} votes, when the run's radii were decided:"
        " --stop anytime-radius or fixed goes on for the radius itself"
    ]


def _advice(
    record: CertificateRecord,
    cap: float | None,
    more: float | None,
    floor: float,
    differ: bool,
) -> list[str]:
    if record.verdict is Verdict.ERROR:
        return ["repair what the reason names; phalanx doctor MODEL looks for it"]
    share = _share(record)
    if share is None:
        return ["the log has no counts, so nothing can be said"]
    radius, advice = record.radius or 0.0, []
    if cap is not None and radius >= _NEAR_CAP * cap:
        advice.append("almost all votes agree: a larger --n or a larger sigma moves the cap")
    if more is not None and more > radius:
        gain = f"{truncated(radius, 4)} to {truncated(more, 4)}"
        advice.append(f"{MORE} times --n at the same share of votes: {gain}")
    if differ:
        advice.append("selection chose another class than most estimation votes: a larger --n0")
    if share <= floor:
        much = "no class has more than half" if floor == 0.5 else f"it has no more than {floor:.3g}"
        advice.append(f"{much} of the noise: only a better model, or less sigma")
    elif cap is not None and radius < _NEAR_CAP * cap:
        advice.append("a model trained for this sigma, or an ensemble, to win more of the noise")
    return advice


def _leads_differ(estimation: Counts, selected: int | None) -> bool:
    classes = {label: count for label, count in estimation.items() if label != INVALID}
    if selected is None or not classes:
        return False
    return classes.get(selected, 0) < max(classes.values())
