"""Which lattice a run computes on, and what that takes off its certificates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from phalanx.data.dataset import DataCard
from phalanx.evaluation.config import ALL, GRID, LATTICE, REAL, CertifyConfig
from phalanx.noise.distributions import HasLattice, Noise, OnLattice
from phalanx.noise.lattice import NEAR, Lattice, steps_for
from phalanx.smoothing.charge import FREE, Charge
from phalanx.smoothing.radii import Ball


@dataclass(frozen=True)
class Arithmetic:
    """How noise and sums of a run are computed, and what its certificates say about that.

    Attributes:
        noise: what the engine adds.
        charge: what is taken off every bound and radius.
        lattice: None in real arithmetic.
        covers: the inputs a certificate covers; empty in real arithmetic.
        on_grid: whether the images lie on the lattice, so that none is moved.
        dimensions: coordinates of an input.
    """

    noise: Noise
    charge: Charge = FREE
    lattice: Lattice | None = None
    covers: str = ""
    on_grid: bool = False
    dimensions: int = 0

    @property
    def name(self) -> str:
        """``"lattice"`` or ``"real"``."""
        return REAL if self.lattice is None else LATTICE

    def said(self) -> dict[str, Any]:
        """What the manifest adds to the configuration, so that charges can be recomputed."""
        if self.lattice is None:
            return {}
        return {
            "steps": self.lattice.steps,
            "step": self.lattice.step,
            "on_grid": self.on_grid,
            "dimensions": self.dimensions,
            "charged_probability": self.charge.probability,
            "charged_distance": self.charge.distance,
        }

    def line(self) -> str:
        """The same in words."""
        if self.lattice is None:
            return "real arithmetic: what floating point does to noise and sums is not covered"
        inputs = "inputs on the lattice" if self.covers == GRID else "all inputs"
        return (
            f"lattice noise of step {self.lattice.step:.6g} ({self.lattice.steps:,} over the"
            f" range) covers {inputs}; charged: {self.charge.probability:.2g} of each"
            f" probability, {self.charge.distance:.4g} of each radius"
        )


def arithmetic_of(config: CertifyConfig, card: DataCard) -> Arithmetic:
    """The arithmetic of a configuration on a data set.

    The lattice is a dyadic fraction of the data's own quantisation, else of its range.

    Raises:
        ParameterError: there is no such lattice, see `steps_for`.
    """
    noise = config.law
    if not config.on_lattice or not isinstance(noise, HasLattice):
        return Arithmetic(noise)
    lattice, dimensions = lattice_of(config, card), math.prod(card.shape)
    on_grid, rounded = lattice.holds(card.levels), noise.on(lattice)
    ball = Ball(config.norm, dimensions)
    charge = charge_of(rounded, lattice, ball, covers=config.covers, on_grid=on_grid)
    return Arithmetic(rounded, charge, lattice, config.covers, on_grid, dimensions)


def lattice_of(config: CertifyConfig, card: DataCard) -> Lattice:
    """The lattice that was asked for, or the coarsest that serves.

    Inputs without a quantisation of their own, or so fine a one that float32 does not show it, are
    moved to it, as are those that a certificate covers which covers all; then its cells are
    small beside sigma.
    """
    low, high = card.value_range
    if config.steps is not None:
        return Lattice(low, high, config.steps)

    def fit(snapped: bool) -> Lattice:
        dimensions = math.prod(card.shape)
        found = steps_for(
            low, high, config.sigma, levels=card.levels, dimensions=dimensions, snapped=snapped
        )
        return Lattice(low, high, found)

    coarse = fit(snapped=config.covers == ALL)
    return coarse if coarse.holds(card.levels) else fit(snapped=True)


def charge_of(
    noise: OnLattice, lattice: Lattice, ball: Ball, *, covers: str, on_grid: bool
) -> Charge:
    """What is taken off, rounded up; the distance is in the norm of the ball.

    The sampler's distance from the rounded Gaussian, added up over all coordinates. Half the
    diagonal of a cell for the image where it is moved to the lattice; where other
    inputs are moved too, the same once more, and for an image on the lattice what float32
    rounding did to it.
    """
    dimensions = ball.values()
    probability = math.nextafter(dimensions * noise.total_variation * (1 + 1e-12), 1.0)
    longest = {"l1": float(dimensions), "l2": math.sqrt(dimensions), "linf": 1.0}[ball.norm]
    half_diagonal = lattice.step * longest / 2
    halves = 0.0 if on_grid else 1.0
    if covers == ALL:
        halves += 1.0 + (2 * NEAR if on_grid else 0.0)
    # Distances to the nearest point are computed in float64: a part in 2**27 of a step.
    return Charge(probability, halves * half_diagonal * (1 + 2.0**-20))
