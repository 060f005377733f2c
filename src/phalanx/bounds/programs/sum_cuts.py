"""The cuts of Tjandraatmadja et al. (2020) as a separator: OptC2V."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import csr_array

from phalanx.bounds.engine import Engine
from phalanx.bounds.planes import SumPlanes
from phalanx.bounds.programs.cuts import Cuts
from phalanx.bounds.programs.encode import Encoding
from phalanx.bounds.programs.matrices import Matrices
from phalanx.bounds.programs.program import Floats
from phalanx.bounds.programs.relax import Separator
from phalanx.bounds.programs.strengthened import LARGEST, Sums, strongest, sums

VIOLATED = 1e-6
"""A point is cut off that is further away than this, in units of its value."""


def sum_cuts(engine: Engine, matrices: Matrices, element: int) -> Separator:
    """Of every ReLU layer of one element of the engine's batch the most violated cuts.

    Args:
        engine: with boxes of everything.
        matrices: of its graph.
        element: which.
    """
    layers: dict[str, Sums | None] = {
        node.name: sums(engine, matrices, node.inputs[0])
        for node in engine.graph
        if node.op == "relu"
    }

    def separate(encoding: Encoding, point: Floats) -> list[Cuts]:
        found: list[Cuts] = []
        for name, layer in layers.items():
            if layer is not None and name in encoding.curves:
                found += _of_layer(engine, element, encoding, name, layer, point=point)
        return found

    return separate


def _of_layer(
    engine: Engine, element: int, encoding: Encoding, name: str, layer: Sums, *, point: Floats
) -> list[Cuts]:
    entries = encoding.curves[name].entries
    if not len(entries) or len(entries) * layer.weights.shape[1] > LARGEST:
        return []
    box = engine.boxes[layer.source]
    lower, upper = (
        side[min(element, len(side) - 1)].double().reshape(-1) for side in (box.lower, box.upper)
    )
    if not bool((torch.isfinite(lower) & torch.isfinite(upper)).all()):
        return []
    source = encoding.forms[layer.source]
    values = source.at(point)
    weights = torch.from_numpy(layer.weights[entries].toarray())
    slope, constant, there = (
        part.numpy()
        for part in strongest(
            weights,
            torch.from_numpy(layer.shift[entries]),
            (lower, upper),
            torch.from_numpy(values),
        )
    )
    answers = encoding.forms[name].take(entries)
    now = answers.at(point)
    over = now - (slope @ values + constant)
    chosen = np.flatnonzero(there & (over > VIOLATED * (1 + np.abs(now))))
    if not len(chosen):
        return []
    below = source.through(csr_array(slope[chosen]))

    parts = (entries[chosen], np.ones(len(chosen)), slope[chosen])
    planes = SumPlanes(name, layer.source, *map(torch.from_numpy, parts))
    return [Cuts(answers.take(chosen).minus(below), constant[chosen], planes.weighed)]
