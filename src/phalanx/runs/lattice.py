"""What lattice arithmetic takes off a certificate, a second time, from a run's configuration.

The sampler reads 64 bits a coordinate off a table that ends where a normal tail falls below 2**-65,
at 9.5 sigma; each of its numbers is wrong by no more than half of 2**-64, which is charged twice.
Inputs that are moved to the lattice move by up to half the diagonal of its cells.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import ceil, inf, isclose, prod, sqrt
from typing import Any, NamedTuple

from phalanx.errors import RunError

REAL, LATTICE = "real", "lattice"
COVERS = ("grid", "all")
_END = Fraction(19, 2)
_ON_GRID_SHARE = 1 / 32
"""Of half a diagonal: what float32 may have done to an image that lies on the lattice."""
_RELATIVE = 1e-5
_NUMBERS = ("sigma", "steps", "step", "dimensions")


class Charges(NamedTuple):
    """Taken off a bound on a probability, and off a radius."""

    probability: float = 0.0
    distance: float = 0.0


NOTHING = Charges()


def charges(config: Mapping[str, Any]) -> Charges:
    """What the arithmetic of a run takes; nothing where it is real or not stated.

    Raises:
        RunError: the run says that it is on a lattice, and not on which.

    >>> said = {"arithmetic": "lattice", "steps": 2, "step": 0.5, "dimensions": 16, "sigma": 1.0}
    >>> charges(said | {"covers": "grid", "on_grid": True}) == Charges(16 * 40 / 2**64, 0.0)
    True
    >>> charges(said | {"covers": "all", "on_grid": False}).distance
    2.0
    """
    if config.get("arithmetic", REAL) != LATTICE:
        return NOTHING
    if lacking := unstated(config):
        raise RunError(f"no charge of lattice arithmetic is known: {lacking}")
    dimensions, step = config["dimensions"], config["step"]
    longest = {"l1": dimensions, "l2": sqrt(dimensions), "linf": 1.0}[config.get("norm", "l2")]
    ends = 2 * ceil(_END * Fraction(config["sigma"]) / Fraction(step)) + 2
    halves = float(not config["on_grid"])
    if config["covers"] == "all":
        halves += 1 + (_ON_GRID_SHARE if config["on_grid"] else 0)
    return Charges(float(Fraction(dimensions * ends, 2**64)), halves * step * longest / 2)


def unstated(config: Mapping[str, Any]) -> str:
    """What a run on a lattice does not say and would have to, or nothing."""
    if config.get("arithmetic") != LATTICE:
        return ""
    for key in _NUMBERS:
        value = config.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < inf:
            return f"the run does not say its {key}"
    if not isinstance(config.get("on_grid"), bool):
        return "the run does not say its on_grid"
    covers = config.get("covers")
    return "" if covers in COVERS else f"there is no independent code for covers {covers!r}"


def problems(config: Mapping[str, Any], data: Mapping[str, Any]) -> list[str]:
    """Where the lattice a run states contradicts its data or the charges it states."""
    if config.get("arithmetic") != LATTICE or unstated(config):
        return []
    found, computed = [], charges(config)
    for key, value in (
        ("charged_probability", computed.probability),
        ("charged_distance", computed.distance),
    ):
        if not isclose(config.get(key, -1.0), value, rel_tol=_RELATIVE):
            found.append(f"{key} is {config.get(key)!r}, the lattice gives {value!r}")
    bounds, shape = data.get("value_range"), data.get("shape")
    if bounds is not None and not isclose(
        config["step"] * config["steps"], bounds[1] - bounds[0], rel_tol=1e-12
    ):
        found.append(f"{config['steps']} steps of {config['step']!r} are not the range {bounds}")
    if shape is not None and prod(shape) != config["dimensions"]:
        found.append(f"inputs of shape {shape} have not {config['dimensions']} coordinates")
    return found


def coverage(config: Mapping[str, Any]) -> str:
    """Step of the lattice and the inputs that are covered, in words; empty in real arithmetic.

    >>> coverage({"arithmetic": "lattice", "step": 0.25, "covers": "grid"})
    'step 0.25, inputs on the lattice'
    """
    if config.get("arithmetic") != LATTICE or not isinstance(config.get("step"), float):
        return ""
    inputs = "inputs on the lattice" if config.get("covers") == "grid" else "all inputs"
    return f"step {config['step']:.6g}, {inputs}"
