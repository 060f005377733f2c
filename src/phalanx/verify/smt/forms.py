"""Affine functions in exact rational numbers, and affine operators applied to them.

Every float is a rational number, so nothing is rounded when weights are read. A matrix is read off
an operator's adjoint in float64: each of its numbers is one weight times one, added to zeros. Only
the mean of a window is no float; its number there names the fraction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from math import prod
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from phalanx.bounds.outward.affine import adjoint, offset
from phalanx.graph.ir import Node

ZERO, ONE = Fraction(0), Fraction(1)
AT_ONCE = 1 << 22
"""Coefficients that are held densely at once."""


class Form(NamedTuple):
    """``sum of terms[v] * v + constant`` over variables v, without terms that are zero."""

    terms: dict[int, Fraction]
    constant: Fraction

    def times(self, factor: Fraction, shift: Fraction = ZERO) -> Form:
        """``factor * self + shift``.

        >>> Form({3: Fraction(1, 2)}, ONE).times(Fraction(2), ONE)
        Form(terms={3: Fraction(1, 1)}, constant=Fraction(3, 1))
        """
        if not factor:
            return Form({}, shift)
        terms = {variable: factor * share for variable, share in self.terms.items()}
        return Form(terms, factor * self.constant + shift)

    def alone(self) -> int | None:
        """The variable that it is, if it is one and nothing else."""
        if len(self.terms) != 1 or self.constant:
            return None
        ((variable, share),) = self.terms.items()
        return variable if share == ONE else None


def constant(value: float | Fraction) -> Form:
    """A number."""
    return Form({}, Fraction(value))


def combined(shares: Sequence[Fraction], forms: Sequence[Form], shift: Fraction = ZERO) -> Form:
    """``sum of shares[i] * forms[i] + shift``.

    >>> x, y = Form({0: ONE}, ZERO), Form({1: ONE}, ONE)
    >>> combined([ONE, Fraction(1, 2)], [x, y])
    Form(terms={0: Fraction(1, 1), 1: Fraction(1, 2)}, constant=Fraction(1, 2))
    """
    terms: dict[int, Fraction] = {}
    total = shift
    for share, form in zip(shares, forms, strict=True):
        if form.constant:
            total += share * form.constant
        for variable, own in form.terms.items():
            found = share if own == ONE else share * own
            terms[variable] = terms[variable] + found if variable in terms else found
    return Form({variable: share for variable, share in terms.items() if share}, total)


def through(node: Node, sources: Sequence[Sequence[Form]]) -> Iterator[Form]:
    """What an affine operator makes of its inputs' forms, entry by entry.

    Args:
        node: with its inputs' shapes in ``attributes["inputs"]`` and tensors in float64.
        sources: forms of its inputs, flat.
    """
    if node.op == "quotient":
        yield from _divided(node, sources[0])
        return
    shifts = offset(node, torch.zeros(1, dtype=torch.float64)).expand(1, *node.shape)
    found = [Fraction(number) for number in shifts.flatten().tolist()]
    places = [form for source in sources for form in source]
    for at, row in enumerate(_rows(node)):
        (where,) = row.nonzero()
        shares = [_share(node, number) for number in row[where].tolist()]
        yield combined(shares, [places[j] for j in where.tolist()], found[at])


def _divided(node: Node, source: Sequence[Form]) -> Iterator[Form]:
    places = np.arange(len(source)).reshape(node.attributes["inputs"][0])
    divisors = np.broadcast_to(node.tensors["divisor"].numpy(), node.shape)
    where = np.broadcast_to(places, node.shape)
    for at, divisor in zip(where.flat, divisors.flat, strict=True):
        yield combined([1 / Fraction(float(divisor))], [source[at]])


def _rows(node: Node) -> Iterator[NDArray[np.float64]]:
    """The operator's matrix row by row, inputs one behind the other."""
    size = prod(node.shape)
    if node.op == "linear" and len(node.shape) == 1:
        yield from node.tensors["weight"].numpy()
        return
    widest = max(size, *(prod(shape) for shape in node.attributes["inputs"]))
    for chosen in torch.arange(size).split(max(1, AT_ONCE // widest)):
        unit = torch.zeros(len(chosen), size, dtype=torch.float64)
        unit[torch.arange(len(chosen)), chosen] = 1.0
        parts = adjoint(node, unit.reshape(len(chosen), *node.shape))
        yield from torch.cat([part.flatten(1) for part in parts], 1).numpy()


def _share(node: Node, number: float) -> Fraction:
    if node.op == "avg-pool":  # one over a whole number of entries
        return Fraction(1, round(1 / number))
    return Fraction(number)
