"""Bounds of a dense network on a batch of boxes, no rounding left out, in either precision.

Two kinds of passes, as in `phalanx.bounds`, over the few matrices of a `Dense`. Forward, every
value is an affine function of the box plus or minus a radius (a zonotope whose generators are the
inputs; those of the curves are added up), which costs little and settles most curves. Backward
(CROWN, Zhang et al. 2018), rows of coefficients are carried to the inputs: for the entries that the
first pass left open, listed over the whole batch, and for the rows that are asked for.

What rounding may cost is added up (Higham 2002, chapter 3): a product of a row with a layer is
off by at most ``gamma |row| . (|W| max|h| + |b|)``, one more number for each entry of a layer. In
single precision, three times as quick, that is still little beside what relaxations lose.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from phalanx.bounds.outward.rounding import SAFE, down, up
from phalanx.verify.bab.bent import Bent, bent, tiny, unit
from phalanx.verify.bab.dense import Dense, Layer, Map

WORTH_PASSES = 3 << 18
"""Coefficients of a layer's rows, for each box, beyond which forms and intervals must do."""

MOST_COEFFICIENTS = 1 << 18
"""Of one backward pass, so that it stays in the cache; more rows are taken in turns."""


@dataclass(frozen=True, eq=False)
class Linear:
    """``coefficients x + constant`` below a row's value, for each box of a batch.

    Attributes:
        coefficients: ``(S, B, n0)`` of the free inputs.
        constant: ``(S, B)``; all roundings are taken off it.
        lower: ``(S, B)``: the least on the box; minus infinity where nothing is known.
        doubt: ``(S, B)``: what was taken off for roundings.
        pull: ``(S, B, n0)``: by how much the row might rise were an input fixed; a guess.
    """

    coefficients: Tensor
    constant: Tensor
    lower: Tensor
    doubt: Tensor
    pull: Tensor


@dataclass(frozen=True, eq=False)
class _Form:
    """``middle + generators . e +- radius`` for e in [-1, 1]^n0: a value on every box.

    Attributes:
        middle, radius: ``(B, n)``.
        generators: ``(n0, B, n)``.
        reach: ``(B, n)``: how far the value may be from the middle.
    """

    middle: Tensor
    generators: Tensor
    radius: Tensor
    reach: Tensor

    def sides(self) -> tuple[Tensor, Tensor]:
        """Lower and upper bounds ``(B, n)``."""
        low, high = down(self.middle - self.reach), up(self.middle + self.reach)
        return (
            low.nan_to_num(-torch.inf, torch.inf, -torch.inf),
            high.nan_to_num(torch.inf, torch.inf, -torch.inf),
        )


@dataclass(frozen=True, eq=False)
class _Step:
    """What a backward pass needs of a curve and the map before it, ``(B, n)`` each.

    Attributes:
        low_slope, low, high: of the lines; ``low`` None: zero.
        turn: the upper slope less the lower one.
        charge: what a row loses, for each unit of a coefficient.
    """

    low_slope: Tensor
    turn: Tensor
    low: Tensor | None
    high: Tensor
    charge: Tensor

    def at(self, box: Tensor | None) -> _Step:
        """For the boxes of a list of rows."""
        if box is None:
            return self
        return _Step(
            self.low_slope.index_select(0, box),
            self.turn.index_select(0, box),
            None if self.low is None else self.low.index_select(0, box),
            self.high.index_select(0, box),
            self.charge.index_select(0, box),
        )


class Walk:
    """Bounds of all curves of a network on boxes within the one it was made for.

    Args:
        network: in the precision to compute in.
        lower, upper: of the free inputs, ``(B, n0)``, float64.
    """

    def __init__(self, network: Dense, lower: Tensor, upper: Tensor) -> None:
        self.network, self.kind = network, network.dtype
        self._unit, self._tiny = unit(self.kind), tiny(self.kind)
        self.middle = ((lower + upper) / 2).to(self.kind)
        centre = self.middle.double()
        half = up(torch.maximum(upper - centre, centre - lower)).clamp_min(0)
        self.half = up(half.to(self.kind)) if self.kind != half.dtype else half
        eye = torch.eye(lower.shape[1], dtype=self.kind)
        zero = torch.zeros_like(self.middle)
        self._forms = [_Form(self.middle, eye[:, None] * self.half, zero, self.half)]
        self._most = [up(self.middle.abs() + self.half)]
        self._steps: list[_Step] = []
        self._shares: list[Tensor] = []
        self.boxes: list[tuple[Tensor, Tensor]] = []
        self._images = [(down(self.middle - self.half), up(self.middle + self.half))]
        self.grow()

    def grow(self) -> None:
        """Bounds of curves that the network has got since."""
        for layer in self.network.layers[len(self._steps) :]:
            self._layer(layer)

    def sides(self, of: Map, op: str = "relu") -> tuple[Tensor, Tensor]:
        """Bounds ``(B, n)`` of a map of the sources known so far."""
        return self._tightened(self._form(of), of, op)

    def least(self, rows: Tensor, inputs: Tensor | None, offset: Tensor) -> Linear:
        """Linear functions below rows of the output.

        Args:
            rows: ``(S, B, m)``; exact in this precision.
            inputs: ``(S, B, n0)``, added to what comes out, or None.
            offset: ``(S, B)``.
        """
        of = self.network.output
        if of is None:
            raise RuntimeError("a network without an output")
        pending = {s: rows @ w for s, w in of.weights.items()}
        constant = offset + (rows * of.bias).sum(2)
        error = (rows.abs() * self._charged(of)).sum(2)
        error = error + 4 * self._unit * (offset.abs() + constant.abs())
        pull = rows.new_zeros(*rows.shape[:2], self.half.shape[1])
        constant, error, best = self._back(pending, constant, error, None, pull)
        found = pending.get(0)
        if found is None:
            found = rows.new_zeros(*rows.shape[:2], self.half.shape[1])
        if inputs is not None:
            found = found + inputs
            met = (found.abs() + inputs.abs()) * self._most[0]
            error = error + self._unit * met.sum(2)
        pull = pull + found.abs() * self.half
        constant, lower, doubt = self._closed(found, constant, error, None)
        if best is not None and inputs is None:
            lower = lower.fmax(best)
        return Linear(found, constant, lower, doubt, pull)

    def _gamma(self, terms: int) -> float:
        return SAFE * terms * self._unit / (1 - terms * self._unit)

    # forward

    def _form(self, of: Map) -> _Form:
        sources = list(of.weights)
        forms = [self._forms[s] for s in sources]
        middle, share = of.bias.expand(len(self.half), -1), self._gamma(of.terms + len(sources) + 4)
        generators: Tensor | None = None
        radius = 2 * share * of.bias_size + self._tiny
        for s, form in zip(sources, forms, strict=True):
            weight = of.weights[s]
            middle = middle + form.middle @ weight.T
            part = form.generators @ weight.T
            generators = part if generators is None else generators + part
            # Twice: for the middle, and for the generators together.
            size = form.radius * (1 + share) + 2 * share * (form.middle.abs() + form.reach)
            radius = radius + size @ of.sizes[s].T
        if generators is None:
            generators = middle.new_zeros(self.half.shape[1], *middle.shape)
        radius = (radius * (1 + share)).expand(middle.shape)
        return self._reaching(middle, generators, radius)

    def _interval(self, of: Map) -> tuple[Tensor, Tensor]:
        """From the boxes of the sources: sometimes better, as these have been tightened."""
        middle, share = of.bias.expand(len(self.half), -1), self._gamma(of.terms + 8)
        reach = share * of.bias_size + self._tiny
        for s, weight in of.weights.items():
            low, high = self._images[s]
            centre = (low + high) / 2
            half = up(torch.maximum(high - centre, centre - low))
            middle = middle + centre @ weight.T
            size = half * (1 + share) + 2 * share * self._most[s]
            reach = reach + size @ of.sizes[s].T
        reach = reach * (1 + share)
        low, high = down(middle - reach), up(middle + reach)
        high = high.nan_to_num(torch.inf, torch.inf, -torch.inf)
        return low.nan_to_num(-torch.inf, torch.inf, -torch.inf), high

    def _reaching(self, middle: Tensor, generators: Tensor, radius: Tensor) -> _Form:
        share = 1 + self._gamma(len(generators) + 4)
        return _Form(middle, generators, radius, (generators.abs().sum(0) + radius) * share)

    def _tightened(self, form: _Form, of: Map, op: str) -> tuple[Tensor, Tensor]:
        """A form's sides after backward passes for the entries that matter."""
        lower, upper = form.sides()
        low, high = self._interval(of)
        lower, upper = lower.fmax(low), upper.fmin(high)
        if set(of.weights) <= {0}:
            return lower, upper
        open_ = (lower < 0) & (upper > 0) if op == "relu" else lower < upper
        if int(open_.sum()) * self.network.widest > WORTH_PASSES * len(lower):
            return lower, upper
        box, entry = open_.nonzero(as_tuple=True)
        size = max(1, MOST_COEFFICIENTS // (2 * self.network.widest))
        for b, e in zip(box.split(size), entry.split(size), strict=True):
            found = self._of_entries(of, b, e)
            lower[b, e] = lower[b, e].fmax(found[0])
            upper[b, e] = upper[b, e].fmin(-found[1])
        if bool((lower > upper).any()):
            raise RuntimeError("two sound bounds contradict each other")
        return lower, upper

    def _layer(self, layer: Layer) -> None:
        """A curve's lines, its image, and the bounds of it."""
        form, of = self._form(layer.map), layer.map
        lower, upper = self._tightened(form, of, layer.node.op)
        self.boxes.append((lower, upper))
        curve = bent(layer.node, lower, upper)
        slope = curve.high_slope
        met = form.middle.abs() + form.reach
        loss = 8 * self._unit * (met * slope.abs() + curve.middle.abs() + curve.spread)
        radius = form.radius * slope.abs() + curve.spread + loss + self._tiny
        middle = form.middle * slope + curve.middle
        self._shares.append(form.generators.abs() / form.reach.clamp_min(self._tiny))
        self._forms.append(self._reaching(middle, form.generators * slope, radius))
        self._steps.append(self._step(curve, of, torch.maximum(lower.abs(), upper.abs())))
        self._most.append(curve.most)
        self._images.append((curve.least, curve.largest))

    def _step(self, curve: Bent, of: Map, most: Tensor) -> _Step:
        """The lines, and all that a row loses on its way through them and the map before.

        Slopes are multiplied in two parts, which costs five roundings of twice the size at most.
        """
        offsets = curve.high.abs() if curve.low is None else curve.low.abs().maximum(curve.high)
        steep = torch.maximum(curve.low_slope.abs(), curve.high_slope.abs())
        extra = most.shape[1] + 3 * self.network.depth + 8
        charge = self._gamma(extra) * offsets
        charge = charge + steep * (2 * self._gamma(extra + 8) * most + self._charged(of))
        turn = curve.high_slope - curve.low_slope
        return _Step(curve.low_slope, turn, curve.low, curve.high, charge * SAFE + self._tiny)

    def _charged(self, of: Map) -> Tensor:
        """``(B, n)``: what a product with the map loses for each unit of a coefficient."""
        terms = max(of.terms, len(of.bias) + 4) + 3 * self.network.depth + 8
        met = of.bias_size.expand(len(self.half), -1)
        for s, size in of.sizes.items():
            met = met + self._most[s] @ size.T
        return met * (self._gamma(terms) * SAFE) + self._tiny

    # backward

    def _of_entries(self, of: Map, box: Tensor, entry: Tensor) -> Tensor:
        """Lower bounds ``(2, R)`` of entries of a map, then of their negatives."""
        pending = {}
        for s, weight in of.weights.items():
            picked = weight.index_select(0, entry)
            pending[s] = torch.stack([picked, -picked])
        bias = of.bias[entry]
        error = self._charged(of)[box, entry].expand(2, -1)
        constant, error, _ = self._back(pending, torch.stack([bias, -bias]), error, box)
        found = pending.get(0)
        if found is None:
            found = bias.new_zeros(2, len(box), self.half.shape[1])
        return self._closed(found, constant, error, box)[1]

    def _back(
        self,
        pending: dict[int, Tensor],
        constant: Tensor,
        error: Tensor,
        box: Tensor | None,
        pull: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Carry rows ``(S, Q, n)`` of sources down to source 0; constant and error ``(S, Q)``.

        With ``pull`` also the best that the rows are on the boxes they meet on their way.
        """
        best = None if pull is None else torch.full_like(constant, -torch.inf)
        for source in range(len(self.network.layers), 0, -1):
            rows = pending.get(source)
            if rows is None:
                continue
            if best is not None:
                met = sum(self._on_box(part, *self._images[s]) for s, part in pending.items())
                met = constant + met
                best = best.fmax(met - SAFE * error - 8 * self._unit * (constant.abs() + met.abs()))
            del pending[source]
            step, of = self._steps[source - 1].at(box), self.network.layers[source - 1].map
            error = error + rows.abs().mul_(step.charge).sum(2)
            negative = rows.clamp_max(0)
            if pull is not None:
                pull += torch.einsum(
                    "sbn,jbn->sbj", rows.abs() * step.high, self._shares[source - 1]
                )
            constant = constant + (negative * step.high).sum(2)
            if step.low is not None:
                constant = constant + ((rows - negative) * step.low).sum(2)
            # torch.where would be the plainer word for it, and costs twenty times as much.
            rows = (rows * step.low_slope).addcmul_(negative, step.turn)
            constant = constant + rows @ of.bias
            for s, weight in of.weights.items():
                part = rows @ weight
                pending[s] = pending[s] + part if s in pending else part
        return constant, error, best

    def _on_box(self, rows: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """The least of rows ``(S, B, n)`` on a box, its roundings taken off."""
        middle, size = (low + high) / 2, rows.abs()
        half = up(torch.maximum(high - middle, middle - low))
        share = 2 * self._gamma(rows.shape[2] + 8)
        reach = half * (1 + share) + share * middle.abs() + self._tiny
        return (rows * middle).sum(2) - (size * reach).sum(2)

    def _closed(
        self, found: Tensor, constant: Tensor, error: Tensor, box: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The constant with all errors taken off, the least on the box, and what was taken off."""
        middle, half, most = (
            value if box is None else value.index_select(0, box)
            for value in (self.middle, self.half, self._most[0])
        )
        share = self._gamma(found.shape[2] + 3 * self.network.depth + 8)
        size = found.abs()
        met = (size * (most + half)).sum(2)
        loss = up(SAFE * (error + share * (met + constant.abs())) + self._tiny)
        constant = down(constant - loss).nan_to_num(-torch.inf, torch.inf, -torch.inf)
        lower = constant + (found * middle).sum(2) - (size * half).sum(2)
        lower = lower.nan_to_num(-torch.inf, torch.inf, -torch.inf)
        return constant, lower, loss
