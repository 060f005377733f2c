"""Phalanx trains, certifies, verifies and attacks neural networks and ensembles of them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_FACADE = {
    "ABSTAIN": "phalanx.verdicts",
    "AttackResult": "phalanx.attacking",
    "CertifyResult": "phalanx.api",
    "Ensemble": "phalanx.ensembles.ensemble",
    "InputSpec": "phalanx.models.model",
    "Model": "phalanx.models.model",
    "RunStore": "phalanx.runs.store",
    "Smoothed": "phalanx.api",
    "Verdict": "phalanx.verdicts",
    "attack": "phalanx.attacking",
    "certify": "phalanx.api",
    "load": "phalanx.api",
    "load_data": "phalanx.data.locate:load",
}
"""Public name -> module, and ``:name`` where it has another one there."""

__all__ = [
    "ABSTAIN",
    "AttackResult",
    "CertifyResult",
    "Ensemble",
    "InputSpec",
    "Model",
    "RunStore",
    "Smoothed",
    "Verdict",
    "__version__",
    "attack",
    "bounds",
    "certify",
    "load",
    "load_data",
    "verify",
]

if TYPE_CHECKING:
    from phalanx.api import CertifyResult, Smoothed, certify, load
    from phalanx.attacking import AttackResult, attack
    from phalanx.data.locate import load as load_data
    from phalanx.ensembles.ensemble import Ensemble
    from phalanx.models.model import InputSpec, Model
    from phalanx.runs.store import RunStore
    from phalanx.verdicts import ABSTAIN, Verdict


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that ``import phalanx`` is instant."""
    if name in ("bounds", "verify"):  # rooms; the second is a function too
        return import_module(f"phalanx.{name}")
    if name not in _FACADE:
        raise AttributeError(f"module 'phalanx' has no attribute {name!r}")
    module, _, there = _FACADE[name].partition(":")
    return getattr(import_module(module), there or name)


def __dir__() -> list[str]:
    """The public names, for completion in a notebook."""
    return sorted(__all__)
