"""Which smoothing certificate proves most: every noise, certificate and norm on one data set.

One network of the MNIST recipe is trained under each noise at the same standard deviation. Each
is certified on the same images with the same number of samples, and every certificate for its
noise is computed from the same votes, in l1, l2 and l_inf. Certificates with samples of their own
(the slope of higher-order ones, the two laws of double sampling) are of the same number of samples
and the same alpha. The order of certificates is compared with published rows where given.

    python benchmarks/certificate_comparison.py --data-dir DATA --out FOLDER [--published CSV]

Training and certification are resumable: the same command goes on, and one with ``--table-only``
prints what is there. Where no certificate is known for a noise and a norm there is no row.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations, product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from smoothing_study import MACHINE, phalanx, trained

from phalanx.data.locate import load
from phalanx.runs.evidence import phases_of
from phalanx.runs.query import NOT_CERTIFIED, certified_radii, rate
from phalanx.runs.schema import ESTIMATION, SELECTION
from phalanx.runs.store import RunStore
from phalanx.smoothing.certificate import certify_counts
from phalanx.smoothing.radii import NORMS, Ball, UsesSecondLaw, default_rule, radii
from phalanx.verdicts import Verdict

RESULTS = Path(__file__).parent / "results"
RECIPE, DATA = "mnist-gaussian", "mnist"
SHOWN = {
    "l1": (0.25, 0.5, 1.0, 1.5, 2.0),
    "l2": (0.25, 0.5, 0.75, 1.0, 1.25, 1.5),
    "linf": (1 / 255, 2 / 255, 4 / 255, 8 / 255, 16 / 255),
}
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sampling:
    """One certification run.

    Attributes:
        noise: of training and certification.
        own: the certificate that the run itself makes, where no rule makes it from votes alone.
        norms: those that it holds in.
        options: what it takes to make it.
        votes: whether all samples are of one law, so that the registered rules hold for them.
    """

    noise: str
    own: str = ""
    norms: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    votes: bool = True

    @property
    def folder(self) -> str:
        """Of the run."""
        return f"certify-{self.noise}" + ("" if self.votes else f"-{self.own}")


SAMPLINGS = (
    Sampling("gaussian", "higher-order", norms=("l2",), options=("slope=0.1",)),
    Sampling("laplace"),
    Sampling("uniform"),
    Sampling("generalised-gaussian"),
    Sampling(
        "generalised-gaussian",
        "double-sampling",
        norms=NORMS,
        options=("certificate=double-sampling",),
        votes=False,
    ),
)


def carry_out(sampling: Sampling, options: argparse.Namespace) -> None:
    """Train under the noise and certify, or continue."""
    data = ("--data-dir", str(options.data_dir))
    models = options.models or options.out / f"train-{sampling.noise}"
    if options.models is None:
        phalanx(
            *("train", RECIPE, *data, "--epochs", str(options.epochs), "--out", str(models)),
            *("--set", f"loss.sigma={options.sigma}", "--set", f"noise.name={sampling.noise}"),
            *("--set", f"model.name={options.network}"),
        )
    else:
        models = options.models / sampling.noise
    asked = [word for option in sampling.options for word in ("--set", option)]
    phalanx(
        *("certify", str(models), "--data", DATA, *data, "--noise", sampling.noise),
        *("--sigma", str(options.sigma), "--n", str(options.n), "--arithmetic", "real"),
        *("--every", str(options.every), "--limit", str(options.limit)),
        *("--precision", options.precision, "--workers", str(options.workers), *asked),
        *("--out", str(options.out / sampling.folder)),
    )


def called(rule: str, noise: str) -> str:
    """A rule's name without that of its noise; the tight one of each is Neyman and Pearson's.

    >>> called("laplace", "laplace"), called("laplace-renyi", "laplace")
    ('neyman-pearson', 'renyi')
    """
    return "neyman-pearson" if rule == default_rule(noise) else rule.removeprefix(f"{noise}-")


def rules_of(noise: str) -> list[str]:
    """Registered rules that make a certificate for a noise from the votes under it alone."""
    return [
        name
        for name, rule in radii.items()
        if rule.noise == noise and not isinstance(rule, UsesSecondLaw)
    ]


def from_votes(run: RunStore) -> Iterator[tuple[str, str, Floats]]:
    """(certificate, norm, radii) of every registered rule for a run's noise, from its votes.

    The radii are per image, and -1 where nothing or a wrong class is certified.
    """
    config, labels, name = run.manifest.config, run.labels(), run.manifest.classifiers[0].name
    dimension = prod(run.manifest.data["shape"])
    votes = {}
    for image in sorted(run.finished()):
        phases = phases_of(run.chunks(image))
        votes[image] = [phases[name, phase].counts for phase in (SELECTION, ESTIMATION)]
    for rule, norm in product(rules_of(config["noise"]), NORMS):
        found = []
        for image, (selection, estimation) in votes.items():
            proven = certify_counts(
                selection,
                estimation,
                sigma=config["sigma"],
                alpha=config["alpha"],
                certificate=rule,
                ball=Ball(norm, dimension),
            )
            right = proven.verdict is Verdict.VERIFIED and proven.predicted == labels[image]
            found.append(proven.radius if right else NOT_CERTIFIED)
        yield called(rule, config["noise"]), norm, np.array(found, dtype=np.float64)


def certificates(sampling: Sampling, run: RunStore) -> Iterator[tuple[str, str, Floats]]:
    """As `from_votes`, with the certificate that the run made itself."""
    if sampling.votes:
        yield from from_votes(run)
    made = run.certificates(run.manifest.classifiers[0].name)
    found = certified_radii(made, labelled=True)
    for norm in sampling.norms:
        # They were made in l2; what lies inside an l2 ball is certified too.
        inside = Ball(norm, prod(run.manifest.data["shape"])).inside("l2")
        yield sampling.own, norm, np.where(found > 0, found * inside, found)


def row(noise: str, certificate: str, norm: str, found: Floats) -> dict[str, Any]:
    """One line of the table."""
    return {
        "norm": norm,
        "noise": noise,
        "certificate": certificate,
        "images": len(found),
        "mean_radius": float(np.maximum(found, 0.0).mean()),
        "clean_accuracy": rate(found, 0.0).value,
        "certified": {f"{radius:.6g}": vars(rate(found, radius)) for radius in SHOWN[norm]},
    }


PUBLISHED_NAMES = {
    "differential-privacy": "Differential Privacy",
    "renyi": "Renyi Divergence",
    "f-divergence": "f-Divergence",
    "neyman-pearson": "Neyman-Pearson",
}


def published_rows(file: Path, norm: str, noise: str) -> dict[str, dict[str, float]]:
    """Certified accuracy by certificate and radius: CIFAR-10, data augmentation, Wide ResNet."""
    found: dict[str, dict[str, float]] = {}
    with file.open(newline="") as lines:
        for line in csv.DictReader(lines):
            asked = (line["dataset"], line["norm"], line["noise"].lower(), line["training"])
            if asked != ("cifar10", norm, noise, "Data Augmentation"):
                continue
            if line["network"].startswith("Wide ResNet"):
                key = f"{float(Fraction(line['eps'])):.6g}"
                found.setdefault(line["verification"], {})[key] = float(
                    line["certified_accuracy_percent"]
                )
    return found


def order_of(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, int]:
    """At how many common radii the first is below, equal to and above the second."""
    pairs = [(one[key], other[key]) for key in one if key in other]
    return {
        "below": sum(a < b for a, b in pairs),
        "equal": sum(a == b for a, b in pairs),
        "above": sum(a > b for a, b in pairs),
    }


def agree(published: Mapping[str, int], ours: Mapping[str, int]) -> bool:
    """Whether neither has a radius at which the order is the other way round.

    >>> agree({"below": 5, "equal": 1, "above": 0}, {"below": 2, "equal": 4, "above": 0})
    True
    >>> agree({"below": 5, "equal": 1, "above": 0}, {"below": 2, "equal": 3, "above": 1})
    False
    """
    ways = {way for found in (published, ours) for way in ("below", "above") if found[way]}
    return len(ways) < 2


def compared(rows: Sequence[Mapping[str, Any]], file: Path) -> list[dict[str, Any]]:
    """Every two of the four certificates that were published for one noise and norm, and ours."""
    result = []
    for norm, noise in (("l2", "gaussian"), ("l1", "laplace")):
        published = published_rows(file, norm, noise)
        ours = {
            line["certificate"]: {key: found["value"] for key, found in line["certified"].items()}
            for line in rows
            if (line["norm"], line["noise"]) == (norm, noise)
        }
        for first, second in combinations(PUBLISHED_NAMES, 2):
            names = PUBLISHED_NAMES[first], PUBLISHED_NAMES[second]
            if not {first, second} <= set(ours):
                continue
            here = order_of(ours[first], ours[second])
            line: dict[str, Any] = {"norm": norm, "noise": noise, "first": first, "second": second}
            line |= {"ours": here, "published": None, "agree": None}
            if set(names) <= set(published):
                line["published"] = order_of(published[names[0]], published[names[1]])
                line["agree"] = agree(line["published"], here)
            result.append(line)
    return result


def finished(options: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows of all runs that are certified in full, and what is known of the runs."""
    rows, runs = [], {}
    for sampling in SAMPLINGS:
        folder = options.out / sampling.folder
        if not (folder / "run.json").exists():
            continue
        with RunStore.open(folder) as run:
            if len(run.finished()) < options.limit:
                continue
            found = certificates(sampling, run)
            rows += [row(sampling.noise, *one) for one in found]
            config = run.manifest.config
            kept = ("sigma", "n", "n0", "alpha", "batch", "precision", "order", "slope")
            runs[sampling.folder] = {key: config[key] for key in kept if key in config}
            runs[sampling.folder]["digest"] = run.digest()
            runs[sampling.folder]["environment"] = {
                key: run.manifest.environment.get(key) for key in MACHINE
            }
        if options.models is None:
            runs[sampling.folder]["trained"] = trained(options.out / f"train-{sampling.noise}")
    places = {norm: place for place, norm in enumerate(NORMS)}
    return sorted(rows, key=lambda line: (places[line["norm"]], -line["mean_radius"])), runs


def show(rows: Sequence[Mapping[str, Any]], order: Sequence[Mapping[str, Any]]) -> None:
    """Print a table for each norm, and the order."""
    for norm in NORMS:
        there = [line for line in rows if line["norm"] == norm]
        if not there:
            continue
        heads = "  ".join(f"@{key[:7]:>7}" for key in there[0]["certified"])
        print(f"\n{norm}, {there[0]['images']} images\n{'':43} mean radius  clean  {heads}")
        for line in there:
            rates = "  ".join(f"{found['value']:8.3f}" for found in line["certified"].values())
            print(
                f"{line['noise']:21} {line['certificate']:21} {line['mean_radius']:11.4f}"
                f"  {line['clean_accuracy']:5.3f}  {rates}"
            )
    if order:
        print("\norder of the certificates: radii at which the first is below / equal / above")
    for line in order:
        words = {None: "not published together", True: "agree", False: "DIFFER"}
        sides = [line["ours"], line["published"]]
        figures = [f"{s['below']}/{s['equal']}/{s['above']}" if s else "-" for s in sides]
        print(
            f"{line['norm']} {line['noise']:9} {line['first']:21} {line['second']:15}"
            f" ours {figures[0]:7} CIFAR-10 {figures[1]:7} {words[line['agree']]}"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what is missing, then write and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", type=Path, help="folder with a MODEL named after each noise")
    parser.add_argument("--network", default="mnist-cnn", help="that is trained")
    parser.add_argument("--sigma", type=float, default=0.5, help="of every noise")
    parser.add_argument("--epochs", type=int, default=6, help="of each training")
    parser.add_argument("--n", type=int, default=10_000, help="samples an image")
    parser.add_argument("--limit", type=int, default=200, help="images, evenly spread")
    parser.add_argument("--precision", default="fp32", help="of the forward passes")
    parser.add_argument("--workers", type=int, default=1, help="processes that certify")
    parser.add_argument("--published", type=Path, help="sok_probabilistic.csv")
    parser.add_argument("--table-only", action="store_true", help="print what is certified so far")
    parser.add_argument("--results", type=Path, default=RESULTS / "certificate_comparison.json")
    options = parser.parse_args(arguments)
    options.every = max(1, len(load(DATA, options.data_dir)) // options.limit)
    for sampling in SAMPLINGS:
        if not options.table_only:
            carry_out(sampling, options)
    rows, runs = finished(options)
    order = compared(rows, options.published) if options.published else []
    result = {
        "command": "python benchmarks/certificate_comparison.py --data-dir DATA --out FOLDER"
        f" --network {options.network} --sigma {options.sigma} --epochs {options.epochs}"
        f" --n {options.n} --limit {options.limit} --published sok_probabilistic.csv",
        "runs": runs,
        "rows": rows,
        "order": order,
    }
    options.results.parent.mkdir(exist_ok=True)
    options.results.write_text(json.dumps(result, indent=1) + "\n")
    show(rows, order)


if __name__ == "__main__":
    main()
