"""Certificates that add a bound to that on p: what they go with, and what they do not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from phalanx.errors import ParameterError
from phalanx.smoothing.double_sampling.split import FEWEST, check_split
from phalanx.smoothing.radii import GAUSSIAN_RULE

if TYPE_CHECKING:
    from phalanx.evaluation.config import CertifyConfig

SLOPE_SAMPLES = 2
_FIXED: dict[str, Any] = {"stop": "fixed", "bound": "clopper-pearson", "top": 1}


def check_share(name: str, value: float) -> None:
    """Refuse what is no part of a whole.

    Raises:
        ParameterError: it is not between 0 and 1.
    """
    if not 0 < value < 1:
        raise ParameterError(f"{name} is {value!r}", why="it is between 0 and 1")


def check_slope(config: CertifyConfig) -> None:
    """Refuse parts that the theorem of the gradient certificate does not speak of.

    Raises:
        ParameterError: what, why and the repair.
    """
    check_share("slope", config.slope)
    if config.runner_up:
        raise ParameterError(
            "a slope and a bound on the runner-up in one certificate",
            why="no theorem here uses both",
            repair="--set runner_up=0, or no slope",
        )
    if config.arithmetic == "lattice":
        raise ParameterError(
            "a slope on a lattice",
            why="the gradient certificate is about the exact normals that were drawn",
            repair="--arithmetic real, or no slope",
        )
    wanted = {**_FIXED, "certificate": GAUSSIAN_RULE, "noise": "gaussian", "norm": "l2"}
    _require(config, wanted, f"slope is {config.slope:g}", "the gradient certificate", "no slope")
    if config.n < SLOPE_SAMPLES:
        raise ParameterError(f"n is {config.n}", why="a slope needs two halves of the samples")


def check_two_laws(config: CertifyConfig) -> None:
    """Refuse parts that double sampling does not go with, and choices of it where it is not used.

    Raises:
        ParameterError: what, why and the repair.
    """
    if not config.double:
        _check_no_second(config)
        return
    if config.dimension is None:
        raise ParameterError(
            "double sampling, and the number of values of an input is not known",
            repair="dimension=784",
        )
    _ = config.laws  # refuses a second law that is none, or not narrower
    if config.arithmetic == "lattice":
        raise ParameterError(
            "double sampling on a lattice",
            why="its theorem is about densities, which noise on a lattice has none of",
            repair="--arithmetic real, or another certificate",
        )
    said, other = "the certificate is double-sampling", "another certificate"
    _require(config, _FIXED, said, "double sampling", other)
    if config.n < FEWEST:
        raise ParameterError(
            f"n is {config.n}",
            why=f"with fewer than {FEWEST} samples there is nothing to share between two laws",
            repair="--n 100000, or another certificate",
        )
    if config.split:
        check_split(config.split, config.n, config.n0)


def _check_no_second(config: CertifyConfig) -> None:
    for name in ("second", "second_level", "split"):
        if getattr(config, name) not in (None, ()):
            raise ParameterError(
                f"{name} is {getattr(config, name)!r}, and the certificate is"
                f" {config.rule_of_radius!r}",
                why="only double sampling draws from a second law of noise",
                repair=f"--set certificate=double-sampling, or no {name}",
            )


def _require(
    config: CertifyConfig, wanted: Mapping[str, Any], said: str, what: str, without: str
) -> None:
    """Refuse the first part that is not the one a certificate is about."""
    parts = {**vars(config), "stop": config.rule, "certificate": config.rule_of_radius}
    for name, part in wanted.items():
        if parts[name] != part:
            raise ParameterError(
                f"{said} and {name} is {parts[name]!r}",
                why=f"{what} is one of {part} {name}",
                repair=f"--set {name}={part}, or {without}",
            )
