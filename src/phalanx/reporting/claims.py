"""What a smoothing run proves, and what it does not: the plain statement of every report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from phalanx.reporting.formatting import count
from phalanx.runs.choices import restrictions, top_of
from phalanx.runs.double_sampling import NAME as DOUBLE_SAMPLING
from phalanx.runs.lattice import charges, coverage
from phalanx.runs.schema import CertificateRecord
from phalanx.verdicts import Verdict

NOISES = {
    "gaussian": "Gaussian",
    "laplace": "Laplace",
    "uniform": "uniform",
    "generalised-gaussian": "generalised Gaussian",
}
"""Their names in a sentence."""


def proven(config: Mapping[str, Any]) -> list[str]:
    """The claims, one sentence or two each, for a run under ``config``."""
    alpha, sigma = config.get("alpha"), config.get("sigma")
    level = f"{1 - alpha:.10g}" if isinstance(alpha, float) else "the stated level"
    kind = NOISES.get(config.get("noise", "gaussian"), config.get("noise"))
    if (order := config.get("order")) is not None:
        kind = f"{kind} (order {order})"
    noise = f"{kind} noise of standard deviation {sigma:g}" if sigma else f"{kind} noise"
    norm = config.get("norm", "l2")
    on_lattice = config.get("arithmetic") == "lattice"
    return [
        f"For each certified image on its own: with probability at least {level} over the noise "
        f"drawn for it, {_kept(config)} for every input whose {norm} distance from the image is "
        "smaller than the radius. An image for which the statistics allow no such claim is an "
        "abstention, and abstentions never count as certified.",
        f"The smoothed classifier is the class that the base classifier most often gives under "
        f"{noise}. The claim is about it.",
        *(f"Classes {said}." for said in restrictions(config)),
        "Distances are measured in the units of the images as they are given to the model, before "
        "any normalisation inside it.",
        *([_on_lattice(config)] if on_lattice else []),
        *([_TWO_LAWS] if config.get("certificate") == DOUBLE_SAMPLING else []),
        "An interval printed beside a rate is a 95% Clopper-Pearson interval, beside an average "
        "or a difference a 95% bootstrap interval over images: it says what other images from "
        "the same source would give, not how sure a single certificate is.",
    ]


_TWO_LAWS = (
    "Radii are those of double sampling: the base classifier was also asked under a second, "
    "narrower law of noise, and half of alpha is spent on each of the two bounds. How many samples "
    "each law got, or that the first got all of them, was decided by the selection samples alone. "
    "The smoothed classifier is that of the first law."
)


def _kept(config: Mapping[str, Any]) -> str:
    if (top := top_of(config)) == 1:
        return "the smoothed classifier returns the same class"
    return (
        "the image's label (without one, the class that its selection samples chose) is among the "
        f"smoothed classifier's top {top}, the classes that the base classifier gives most often,"
    )


def _on_lattice(config: Mapping[str, Any]) -> str:
    taken = charges(config)
    if config.get("covers") == "all":
        covered = (
            "The claim covers every input; the classifier moves it to the nearest point first."
        )
    else:
        covered = "The claim covers the inputs that lie on the lattice, as 8-bit images do."
    moved = "" if config.get("on_grid") else " The certified images are moved to it too."
    return (
        f"Inputs and noise lie on a lattice of step {config.get('step', 0):.6g}, so no sum of them "
        f"is rounded. {covered}{moved} For the distance of the sampler from rounded Gaussian noise "
        f"{taken.probability:.2g} is taken off every probability, and for inputs that are moved "
        f"{taken.distance:.4g} off every radius."
    )


def kind_of_claim(config: Mapping[str, Any]) -> str:
    """Norm and arithmetic of every claim; empty where the run does not state them.

    >>> kind_of_claim({"norm": "l2", "arithmetic": "real"}), kind_of_claim({})
    ('l2 norm, real arithmetic', '')
    """
    stated = [f"{config[key]} {key}" for key in ("norm", "arithmetic") if config.get(key)]
    covered = coverage(config)
    return ", ".join([*stated, covered] if covered else stated)


_FLOATING = (
    "The arithmetic of the claim is that of real numbers. Noise and network are computed in "
    "floating point, noise is not drawn on a lattice, and an attack on rounding itself is "
    "outside the claim."
)
_EXECUTED = (
    "The base classifier is the network as it was executed, in floating point and on this device; "
    "other kernels may round its logits otherwise, and then it is another classifier."
)


def not_proven(
    config: Mapping[str, Any], rows: Sequence[CertificateRecord], classifiers: int
) -> list[str]:
    """The limits of the claims, for the rows of all classifiers of a run under ``config``."""
    norm = config.get("norm", "l2")
    limits = [
        "Nothing is claimed for the base network itself, nor for a deployment that draws fewer "
        "samples: such a predictor returns the smoothed class only with its own error.",
        "Each image is a claim of its own. That all of them hold at once is not claimed: of "
        "many certificates, up to a share alpha may be expected to be wrong.",
        f"Nothing is claimed outside the {norm} ball: a rotation, a change of brightness or a "
        "change that is small in another norm is covered only where it stays inside.",
        _EXECUTED if config.get("arithmetic") == "lattice" else _FLOATING,
        "An image whose computation failed is an error. It counts as not certified in every "
        "figure, and nothing is said about it.",
    ]
    if classifiers > 1:
        limits.append(
            f"{classifiers} classifiers were certified on the same images. Picking the best of "
            "them here and quoting its figures makes no simultaneous claim; a fair figure for "
            "the winner needs other images."
        )
    unknown = sum(row.n_a is None and row.verdict is not Verdict.ERROR for row in rows)
    if unknown:
        limits.append(
            f"{count(unknown)} rows were imported without vote counts. They are shown as "
            "published and cannot be recomputed from this run."
        )
    return limits
