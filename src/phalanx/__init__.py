"""Phalanx trains, certifies, verifies and attacks neural networks and ensembles of them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_FACADE = {
    "ABSTAIN": "phalanx.verdicts",
    "CertifyResult": "phalanx.api",
    "Ensemble": "phalanx.ensembles.ensemble",
    "InputSpec": "phalanx.models.model",
    "Model": "phalanx.models.model",
    "RunStore": "phalanx.runs.store",
    "Smoothed": "phalanx.api",
    "Verdict": "phalanx.verdicts",
    "certify": "phalanx.api",
    "load": "phalanx.api",
}

__all__ = [
    "ABSTAIN",
    "CertifyResult",
    "Ensemble",
    "InputSpec",
    "Model",
    "RunStore",
    "Smoothed",
    "Verdict",
    "__version__",
    "certify",
    "load",
]

if TYPE_CHECKING:
    from phalanx.api import CertifyResult, Smoothed, certify, load
    from phalanx.ensembles.ensemble import Ensemble
    from phalanx.models.model import InputSpec, Model
    from phalanx.runs.store import RunStore
    from phalanx.verdicts import ABSTAIN, Verdict


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that ``import phalanx`` is instant."""
    if name not in _FACADE:
        raise AttributeError(f"module 'phalanx' has no attribute {name!r}")
    return getattr(import_module(_FACADE[name]), name)
