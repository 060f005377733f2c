"""Trees of boxes of inputs: replayed from the case's box, cut by cut.

Of a box that no row refutes, the rows cut off what no counterexample reaches (De Palma et al.
2024), and what is left is cut in two where the tree says. A tree holds where every leaf is refuted.
The boxes themselves are in no file: they follow from the cuts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from phalanx.verify.proof.broken import ProofBroken
from phalanx.verify.proof.evidence import ByBoxes, Integers
from phalanx.verify.proof.passes import Net, Passes
from phalanx.verify.proof.rounding import HALF_ULP, Array, above, below
from phalanx.verify.proof.rows import Rows, weighed

LEAF = -1
ROUNDS = 3
"""How often rows cut each other's boxes."""
NUMBERS_AT_ONCE = 1 << 19
MOST_AT_ONCE = 1024
SMALLEST = 1e-9
"""Leaves that need more cuts than the search made are not cut below this share of the box."""
THIN = 64.0
"""Nor through a side that is so much shorter, of its input's range, than the longest: where a row
leans on one input alone, cutting it for ever would leave the others whole."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What bounds say of B boxes.

    Attributes:
        refuted: ``(B,)``.
        lower, upper: what the rows leave of them, ``(B, n)``.
        best: the largest lower bound of a row, ``(B,)``.
        pull: how much each input moves that row, ``(B, n)``.
    """

    refuted: np.ndarray
    lower: Array
    upper: Array
    best: Array
    pull: Array


def seen(net: Net, rows: Rows, lower: Array, upper: Array) -> Seen:
    """Bounds of a case's rows on boxes ``(B, n)``.

    Raises:
        ProofBroken: a case without rows: every input is a counterexample.
    """
    passes, count, own = Passes(net, lower, upper), len(lower), len(rows)
    if not own:
        raise ProofBroken("a case without rows", "every input of its box is unsafe")
    at = np.repeat(np.arange(count), own)
    found = weighed(passes, rows, np.tile(np.eye(own), (count, 1)), at)
    slopes = found.slopes.reshape(count, own, -1)
    constant, least = (part.reshape(count, own) for part in (found.constant, found.lower))
    low, high, empty = clipped(lower, upper, slopes, constant)
    best = np.where(np.isnan(least), -np.inf, least)
    row = best.argmax(1)
    refuted = (least > 0).any(1) | empty
    pull = np.abs(slopes[np.arange(count), row]) * (high - low)
    return Seen(refuted, low, high, best.max(1), np.nan_to_num(pull))


def clipped(
    lower: Array, upper: Array, slopes: Array, constant: Array
) -> tuple[Array, Array, np.ndarray]:
    """Boxes ``(B, n)`` without what ``slopes x + constant <= 0`` excludes; and which are empty.

    From the corner where a row is least it rises by ``|slope|`` along every input, so that nothing
    further away than its least value divided by the slope is at most zero.

    Args:
        lower, upper: ``(B, n)``.
        slopes: ``(B, J, n)``.
        constant: ``(B, J)``.

    >>> box = np.zeros((1, 1)), np.ones((1, 1))
    >>> low, high, empty = clipped(*box, np.array([[[2.0]]]), np.array([[-1.0]]))
    >>> 0.5 <= high.item() < 0.5 + 1e-9, bool(empty)
    (True, False)
    """
    low, high = lower, upper
    empty = np.zeros(len(lower), dtype=bool)
    share = 32 * HALF_ULP * (slopes.shape[2] + 4)
    steep = np.abs(slopes)
    with np.errstate(all="ignore"):
        for _ in range(ROUNDS):
            corner = np.where(slopes > 0, low[:, None], high[:, None])
            most = np.maximum(np.abs(low), np.abs(high))[:, None]
            off = share * ((steep * most).sum(2) + np.abs(constant))
            least = constant + (slopes * corner).sum(2)
            empty |= (least > off).any(1)
            room = np.maximum(off - least, 0)[:, :, None] / steep
            room = np.where(np.isnan(room), np.inf, above(room * (1 + share)))
            tops = np.where(slopes > 0, above(low[:, None] + room), np.inf)
            bottoms = np.where(slopes < 0, below(high[:, None] - room), -np.inf)
            high = np.fmin(high, tops.min(1, initial=np.inf))
            low = np.fmax(low, bottoms.max(1, initial=-np.inf))
            empty |= (low > high).any(1)
            gone = empty[:, None]
            low, high = np.where(gone, lower, low), np.where(gone, upper, high)
    return low, high, empty


@dataclass(frozen=True, eq=False)
class _Tree:
    """A tree with its children: ``(N,)`` each; -1 at leaves."""

    inputs: Integers
    places: Array
    lower: Integers
    upper: Integers


def parsed(found: ByBoxes, count: int) -> _Tree:
    """The children of every node.

    Raises:
        ProofBroken: cut off, too long, a place that is no number, or an input that is none.
    """
    inputs = found.inputs
    cuts = inputs != LEAF
    if not bool(((inputs >= LEAF) & (inputs < count)).all()):
        raise ProofBroken("a tree of boxes", "it cuts an input that there is not")
    if int(cuts.sum()) != len(found.places) or not bool(np.isfinite(found.places).all()):
        raise ProofBroken("a tree of boxes", "not every cut has a place that is a number")
    places = np.zeros(len(inputs))
    places[cuts] = found.places
    first = np.full(len(inputs), LEAF, dtype=np.int64)
    second = np.full(len(inputs), LEAF, dtype=np.int64)
    waiting: list[int] = []
    for at, cut in enumerate(cuts.tolist()):
        if at and not waiting:
            raise ProofBroken("a tree of boxes", "it goes on behind its end")
        if at:
            parent = waiting[-1]
            if first[parent] == LEAF:
                first[parent] = at
            else:
                second[parent] = at
                waiting.pop()
        if cut:
            waiting.append(at)
    if waiting or not len(inputs):
        raise ProofBroken("a tree of boxes", "a half is missing")
    return _Tree(inputs, places, first, second)


Open = Callable[[int, Seen, int], None]
"""Told of a leaf that is not refuted: its number, what was seen and where in that."""


def never() -> bool:
    """Time is never over."""
    return False


def replayed(
    net: Net,
    rows: Rows,
    found: ByBoxes,
    told: Open | None = None,
    expired: Callable[[], bool] = never,
) -> int:
    """Walk a tree; how many boxes were bounded.

    Args:
        net: the network.
        rows: the case.
        found: the tree.
        told: of leaves that are not refuted; None: the first one ends it.
        expired: whether time is over.

    Raises:
        ProofBroken: the tree leaves something out, or there is no time left.
    """
    tree = parsed(found, net.inputs)
    at_once = max(1, min(MOST_AT_ONCE, NUMBERS_AT_ONCE // (net.widest * max(1, len(rows)))))
    node = np.zeros(1, dtype=np.int64)
    lower, upper = rows.lower[None], rows.upper[None]
    bounded = 0
    while len(node):
        if expired():
            raise ProofBroken("a tree of boxes", f"time was over at box {bounded} of it")
        now, node = node[-at_once:], node[:-at_once]
        box = lower[-at_once:], upper[-at_once:]
        lower, upper = lower[:-at_once], upper[:-at_once]
        what = seen(net, rows, *box)
        bounded += len(now)
        left = np.flatnonzero(~what.refuted)
        for at in left[tree.inputs[now[left]] == LEAF].tolist():
            if told is None:
                raise ProofBroken(
                    f"box {now[at]} of {len(tree.inputs)}",
                    f"no row is above zero on it: the best bound is {what.best[at]:.3g}",
                )
            told(int(now[at]), what, at)
        left = left[tree.inputs[now[left]] != LEAF]
        halves = _halves(tree, now[left], what.lower[left], what.upper[left])
        node = np.concatenate([node, halves[0]])
        lower, upper = np.concatenate([lower, halves[1]]), np.concatenate([upper, halves[2]])
    return bounded


def _halves(
    tree: _Tree, node: Integers, lower: Array, upper: Array
) -> tuple[Integers, Array, Array]:
    """What is below a cut and what is above it, where there is anything."""
    here, at, place = np.arange(len(node)), tree.inputs[node], tree.places[node]
    high, low = upper.copy(), lower.copy()
    high[here, at] = np.minimum(high[here, at], place)
    low[here, at] = np.maximum(low[here, at], place)
    below_, above_ = lower[here, at] <= place, upper[here, at] >= place
    return (
        np.concatenate([tree.lower[node[below_]], tree.upper[node[above_]]]),
        np.concatenate([lower[below_], low[above_]]),
        np.concatenate([high[below_], upper[above_]]),
    )


def extended(net: Net, rows: Rows, found: ByBoxes, expired: Callable[[], bool]) -> ByBoxes:
    """The tree with more cuts where its leaves are not refuted yet.

    A search may bound boxes a little better than a checker does, or with other roundings.

    Raises:
        ProofBroken: a leaf that no cuts refute, or there is no time left.
    """
    grown: dict[int, ByBoxes] = {}
    width = rows.upper - rows.lower

    def more(node: int, what: Seen, at: int) -> None:
        grown[node] = _cut(net, rows, (what, at), width, expired)

    replayed(net, rows, found, more, expired)
    if not grown:
        return found
    inputs: list[Integers] = []
    places: list[Array] = []
    used = start = 0
    for node in [*sorted(grown), len(found.inputs)]:
        inputs.append(found.inputs[start:node])
        cuts = int((inputs[-1] != LEAF).sum())
        places.append(found.places[used : used + cuts])
        used, start = used + cuts, node + 1
        if node in grown:
            inputs.append(grown[node].inputs)
            places.append(grown[node].places)
    return ByBoxes(np.concatenate(inputs), np.concatenate(places))


def _cut(
    net: Net, rows: Rows, first: tuple[Seen, int], width: Array, expired: Callable[[], bool]
) -> ByBoxes:
    """A tree for one box that was not refuted."""
    inputs: list[int] = []
    places: list[float] = []
    waiting = [first]
    while waiting:
        what, at = waiting.pop()
        if what.refuted[at]:
            inputs.append(LEAF)
            continue
        low, high = what.lower[at], what.upper[at]
        middle = low + (high - low) / 2
        share = np.divide(high - low, width, out=np.zeros_like(width), where=width > 0)
        can = (middle > low) & (middle < high) & (share > np.maximum(SMALLEST, share.max() / THIN))
        if expired() or not can.any():
            raise ProofBroken("a box of the search", f"its best bound is {what.best[at]:.3g}")
        place = int(np.where(can, what.pull[at] + SMALLEST * (high - low), -1.0).argmax())
        inputs.append(place)
        places.append(float(middle[place]))
        top, bottom = high.copy(), low.copy()
        top[place] = bottom[place] = middle[place]
        for half in ((bottom, high), (low, top)):
            waiting.append((seen(net, rows, half[0][None], half[1][None]), 0))
    return ByBoxes(np.array(inputs, dtype=np.int64), np.array(places))
