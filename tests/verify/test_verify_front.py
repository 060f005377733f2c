"""``phalanx.verify`` is a room and a function; properties come in several ways."""

from __future__ import annotations

from pathlib import Path

import pytest
from verify_nets import case, reaches, tent

import phalanx
from phalanx.errors import ParameterError, QueryError
from phalanx.models.model import InputSpec, Model
from phalanx.verdicts import Verdict
from phalanx.verify.front import property_of, verify

TEXT = """(declare-const X_0 Real)(declare-const X_1 Real)
(declare-const Y_0 Real)(declare-const Y_1 Real)
(assert (>= X_0 -1))(assert (<= X_0 1))(assert (>= X_1 -1))(assert (<= X_1 1))
(assert (>= Y_0 2.5))
"""


def test_the_room_is_a_function(tmp_path: Path) -> None:
    path = tmp_path / "p.vnnlib"
    path.write_text(TEXT)
    assert phalanx.verify(tent(), path, timeout=60).verdict is Verdict.VERIFIED  # type: ignore[operator]
    assert verify(tent(), reaches(1.0), 60).verdict is Verdict.FALSIFIED
    assert verify(tent(), case([[-1, 0]], [2.5]), 60).word == "unsat"
    with pytest.raises(ParameterError, match="a property of type"):
        property_of(3)  # type: ignore[arg-type]
    with pytest.raises(QueryError):
        property_of(tmp_path / "absent.vnnlib")


def test_a_model_is_verified_in_its_own_units() -> None:
    """The normalisation is inside: ``|2 x| + ...`` reaches 2 where x reaches a half."""
    from phalanx.graph.run import GraphNetwork

    inputs = InputSpec(range=(-1.0, 1.0), mean=(0.0, 0.0), std=(0.5, 0.5), shape=(2,))
    model = Model(GraphNetwork(tent()), inputs, 2)
    assert verify(model, case([[-1, 0]], [2.5], side=0.5), 60).word == "unsat"
    found = verify(model, case([[-1, 0]], [2.5]), 60)
    assert found.witness is not None
    assert found.witness.y[0] >= 2.5
    assert found.witness.x.abs().max() <= 1
