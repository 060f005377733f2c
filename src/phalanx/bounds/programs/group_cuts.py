"""Sides of the hulls of ReLUs taken together, as a separator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_array

from phalanx.bounds.engine import BLOCK as COEFFICIENTS
from phalanx.bounds.engine import Engine
from phalanx.bounds.outward.octahedra import directions
from phalanx.bounds.planes import GroupPlanes, Plane
from phalanx.bounds.programs.cuts import Cuts
from phalanx.bounds.programs.encode import Encoding
from phalanx.bounds.programs.groups import Sides, hull, together
from phalanx.bounds.programs.program import Floats, Indices, stacked
from phalanx.bounds.programs.relax import Separator
from phalanx.graph.ir import Node

BLOCK = 6
"""ReLUs of which all groups are taken."""

VIOLATED = 1e-6
"""In units of the answers."""


@dataclass(frozen=True, eq=False)
class Group:
    """Entries ``(k,)`` of a layer, and the sides of their hull."""

    entries: Indices
    sides: Sides


def group_cuts(engine: Engine, element: int, count: int) -> Separator:
    """Of every group the side that a point violates most.

    Args:
        engine: with boxes of everything; sums of arguments are bounded by its backward passes.
        element: of its batch.
        count: how many ReLUs make a group at most; pairs are groups too.
    """
    part = engine.part(element)
    layers = {
        node.name: [g for size in range(2, count + 1) for g in _groups(part, node, size)]
        for node in engine.graph
        if node.op == "relu"
    }

    def separate(encoding: Encoding, point: Floats) -> list[Cuts]:
        found: list[Cuts] = []
        for name, groups in layers.items():
            if groups:
                found += _violated(engine.nodes[name], encoding, groups, point)
        return found

    return separate


def _groups(engine: Engine, node: Node, count: int) -> list[Group]:
    """Groups of a layer's open ReLUs, those first whose triangles are highest."""
    lower, upper = (side.reshape(-1).double().numpy() for side in engine.boxes[node.inputs[0]])
    open_ = np.flatnonzero((lower < 0) & (upper > 0) & np.isfinite(upper - lower))
    if len(open_) < count:
        return []
    low, high = lower[open_], upper[open_]
    members = open_[together(-low * high / (high - low), count, BLOCK)]
    ends = _octahedra(engine, node.inputs[0], members, lower, upper)
    found = []
    for entries, least, most in zip(members, *ends, strict=True):
        sides = hull(least, most, count)
        if sides is not None:
            found.append(Group(entries, sides))
    return found


def _octahedra(
    engine: Engine, name: str, members: Indices, lower: Floats, upper: Floats
) -> tuple[Floats, Floats]:
    """Bounds ``(g, d)`` of all sums of each group's arguments: boxes', or better ones."""
    ways = directions(members.shape[1])
    positive, negative = np.maximum(ways, 0), np.minimum(ways, 0)
    low = lower[members] @ positive.T + upper[members] @ negative.T
    high = upper[members] @ positive.T + lower[members] @ negative.T
    node = engine.nodes[name]
    several = np.flatnonzero(np.abs(ways).sum(1) > 1)
    size = len(lower)
    # One row for each group and sum; its entries are the group's coefficients.
    groups = torch.from_numpy(np.repeat(members, len(several), axis=0))
    values = torch.from_numpy(np.tile(ways[several], (len(members), 1)))
    parts = []
    for at in torch.arange(len(groups)).split(max(1, COEFFICIENTS // (2 * size))):
        rows = torch.zeros(len(at), size, dtype=engine.region.lower.dtype)
        rows.scatter_(1, groups[at], values[at].to(rows.dtype))
        rows = rows.reshape(len(at), 1, *node.shape)
        parts.append(engine.least({name: torch.cat([rows, -rows])}, None)[:, 0].reshape(2, -1))
    bounds = torch.cat(parts, 1).double().reshape(2, len(members), len(several)).numpy()
    low[:, several] = np.fmax(low[:, several], bounds[0])
    high[:, several] = np.fmin(high[:, several], -bounds[1])
    return np.minimum(low, high), np.maximum(low, high)


def _violated(node: Node, encoding: Encoding, groups: list[Group], point: Floats) -> list[Cuts]:
    arguments, answers = encoding.forms[node.inputs[0]], encoding.forms[node.name]
    z, y = arguments.at(point), answers.at(point)
    chosen: list[tuple[Group, int]] = []
    for group in groups:
        sides, at = group.sides, group.entries
        over = sides.arguments @ z[at] + sides.answers @ y[at] - sides.most
        worst = int(over.argmax())
        if over[worst] > VIOLATED * (1 + np.abs(y[at]).max()):
            chosen.append((group, worst))
    return [
        _side(
            node, encoding, [(group, side) for group, side in chosen if len(group.entries) == size]
        )
        for size in sorted({len(group.entries) for group, _ in chosen})
    ]


def _side(node: Node, encoding: Encoding, chosen: list[tuple[Group, int]]) -> Cuts:
    """Sides of hulls of equally many ReLUs."""
    arguments, answers = encoding.forms[node.inputs[0]], encoding.forms[node.name]
    size = len(answers)
    entries = np.stack([group.entries for group, _ in chosen])
    first = np.stack([group.sides.arguments[side] for group, side in chosen])
    second = np.stack([group.sides.answers[side] for group, side in chosen])
    places = np.concatenate([entries, entries + size], axis=1)
    ends = np.arange(len(chosen) + 1) * places.shape[1]
    weights = np.concatenate([first, second], axis=1)
    matrix = csr_array(
        (weights.reshape(-1), places.reshape(-1), ends), shape=(len(chosen), 2 * size)
    )
    forms = stacked([arguments, answers]).through(matrix)

    def plane(multipliers: Floats) -> Plane:
        used = np.flatnonzero(multipliers)
        scale = multipliers[used, None]
        parts = (entries[used], scale * first[used], scale * second[used])
        return GroupPlanes(node.name, *(torch.from_numpy(part) for part in parts))

    return Cuts(forms, np.array([group.sides.most[side] for group, side in chosen]), plane)
