"""Deterministic bounds: what a network can answer anywhere in a set of inputs.

``bounds.compute(model, threat, x, method="crown")`` is the one call for every method.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_FACADE = {
    "Ball": "phalanx.bounds.region",
    "Bounds": "phalanx.bounds.front",
    "Options": "phalanx.bounds.options",
    "Region": "phalanx.bounds.region",
    "ball": "phalanx.bounds.region",
    "box": "phalanx.bounds.region",
    "compute": "phalanx.bounds.front",
    "lipschitz_radius": "phalanx.bounds.lipschitz.radius",
    "margins": "phalanx.bounds.front",
}
"""Public name -> module."""

__all__ = [
    "Ball",
    "Bounds",
    "Options",
    "Region",
    "ball",
    "box",
    "compute",
    "lipschitz_radius",
    "margins",
]

if TYPE_CHECKING:
    from phalanx.bounds.front import Bounds, compute, margins
    from phalanx.bounds.lipschitz.radius import lipschitz_radius
    from phalanx.bounds.options import Options
    from phalanx.bounds.region import Ball, Region, ball, box


def __getattr__(name: str) -> Any:
    """Import a public name on first use: rooms within this one import each other."""
    if name not in _FACADE:
        raise AttributeError(f"module 'phalanx.bounds' has no attribute {name!r}")
    return getattr(import_module(_FACADE[name]), name)


def __dir__() -> list[str]:
    """The public names, for completion in a notebook."""
    return sorted(__all__)
