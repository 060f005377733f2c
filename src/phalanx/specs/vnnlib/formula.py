"""Assertions, as a disjunction of cases."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import product
from math import gcd, inf, lcm, nextafter, prod
from typing import NamedTuple

from phalanx.specs.vnnlib.terms import NUMBER, Linear, Terms
from phalanx.specs.vnnlib.tokens import Form, Script

MOST_CASES = 1 << 17


Factors = Mapping[int, Fraction]
"""Coefficients by what they multiply."""


class Side(NamedTuple):
    """``X_at <= value``, or ``>=`` where ``above`` is false.

    Attributes:
        exact: the number, where the shortest decimal form of ``value`` is another one.
    """

    at: int
    above: bool
    value: float
    exact: Fraction | None = None


class Row(NamedTuple):
    """``sum outputs Y + sum inputs X + offset <= 0``, or ``< 0`` where it is strict.

    Attributes:
        exact: the offset, where ``offset`` lies below it.
        factors: all coefficients, of outputs and of inputs, where float64 has not all of them.
    """

    outputs: tuple[tuple[int, float], ...]
    inputs: tuple[tuple[int, float], ...]
    offset: float
    strict: bool = False
    exact: Fraction | None = None
    factors: tuple[Factors, Factors] | None = None


Atom = Side | Row
Conjunction = list[Atom]

CLOSED = ("<=", ">=")
ALL = (*CLOSED, "<", ">", "==", "!=")


@dataclass(frozen=True)
class Formulas:
    """Reads formulas.

    Attributes:
        script: for messages.
        terms: see `Terms`.
        relations: those of the language.
    """

    script: Script
    terms: Terms
    relations: tuple[str, ...] = CLOSED

    def cases(self, assertions: Iterable[Form]) -> tuple[Conjunction, Iterator[Conjunction]]:
        """What must hold in every case, and what more in each; assertions must all hold.

        Raises:
            QueryError: a form that is no formula, or more than `MOST_CASES` cases.
        """
        common: Conjunction = []
        choices: list[list[Conjunction]] = []
        for form in assertions:
            for part in self._conjuncts(form):
                found = self.disjuncts(part)
                if len(found) == 1:
                    common += found[0]
                else:
                    choices.append(found)
                    self._few(prod(map(len, choices)), part)
        if len(choices) == 1:
            return common, iter(choices[0])
        return common, ([a for part in chosen for a in part] for chosen in product(*choices))

    def _conjuncts(self, form: Form) -> Iterator[Form]:
        """A formula without the conjunctions at its outside."""
        if form.head != "and":
            yield form
            return
        for part in self._parts(form):
            yield from self._conjuncts(part)

    def disjuncts(self, form: Form) -> list[Conjunction]:
        """A formula in disjunctive normal form."""
        if form.head == "or":
            found = [one for part in self._parts(form) for one in self.disjuncts(part)]
            self._few(len(found), form)
            return found
        if form.head == "and":
            parts = [self.disjuncts(part) for part in self._parts(form)]
            self._few(prod(map(len, parts)), form)
            return [[atom for one in chosen for atom in one] for chosen in product(*parts)]
        return self._relation(form)

    def _few(self, count: int, form: Form) -> None:
        if count > MOST_CASES:
            raise self.script.wrong(form, f"{count} cases", why=f"at most {MOST_CASES} are read")

    def _parts(self, form: Form) -> list[Form]:
        parts = [part for part in form[1:] if isinstance(part, Form)]
        if not parts or len(parts) != len(form) - 1:
            raise self.script.wrong(form, f"({form.head} ...) of no formulas, or of words")
        return parts

    def _relation(self, form: Form) -> list[Conjunction]:
        if form.head not in self.relations:
            raise self.script.wrong(
                form,
                f"no formula: ({form.head or '...'} ...)",
                why=f"formulas are made with and, or, {', '.join(self.relations)}",
            )
        if len(form) != 3:
            raise self.script.wrong(form, f"{form.head} of {len(form) - 1} terms, not of two")
        quick = self._quick(form)
        if quick is not None:
            return [[quick]]
        left, right = (self.terms.read(term, form) for term in form[1:])
        less, more = left.plus(right, Fraction(-1)), right.plus(left, Fraction(-1))
        if form.head == "==":
            return [self._atoms(less, form) + self._atoms(more, form)]
        if form.head == "!=":
            return [self._atoms(side, form, strict=True) for side in (less, more)]
        side = less if form.head in ("<=", "<") else more
        return [self._atoms(side, form, strict=form.head in ("<", ">"))]

    def _quick(self, form: Form) -> Atom | None:
        """``X <= number``, ``Y <= number``, ``Y <= Y``: most assertions, without fractions."""
        relation, left, right = form
        if relation not in CLOSED or not isinstance(left, str) or not isinstance(right, str):
            return None
        found = self.terms.lookup(left)
        if found is None:
            return None
        is_input, index = found
        sign = 1.0 if relation == "<=" else -1.0
        other = self.terms.lookup(right)
        if other is None:
            return _of_number(right, index, sign, is_input=is_input)
        if is_input or other[0] or other[1] == index:
            return None
        return Row(((index, sign), (other[1], -sign)), (), 0.0)

    def _atoms(self, term: Linear, form: Form, *, strict: bool = False) -> Conjunction:
        """``term <= 0`` (or ``< 0``): the side of an input, a row, or (strict) both."""
        inputs = {i: c for i, c in term.inputs.items() if c}
        outputs = {j: c for j, c in term.outputs.items() if c}
        if not inputs and not outputs:
            raise self.script.wrong(form, "a comparison in which no variable is left")
        atoms: Conjunction = []
        if len(inputs) == 1 and not outputs:
            ((index, factor),) = inputs.items()
            side = self._side(index, -term.constant / factor, form, above=factor > 0)
            if not strict:
                return [side]
            atoms.append(side)
        return [*atoms, self._row(outputs, inputs, term.constant, form, strict=strict)]

    def _side(self, index: int, value: Fraction, form: Form, *, above: bool) -> Side:
        nearest = self.terms.rounded(value, form)
        return Side(index, above, nearest, None if Fraction(repr(nearest)) == value else value)

    def _row(
        self, outputs: Factors, inputs: Factors, constant: Fraction, form: Form, *, strict: bool
    ) -> Row:
        """The row, multiplied where float64 does not hold its coefficients but holds multiples."""
        scale = _scale([*outputs.values(), *inputs.values()])
        rounded, exact = self.terms.rounded, constant * (scale or 1)
        offset = rounded(exact, form, down=True)
        return Row(
            tuple((j, rounded(c * (scale or 1), form)) for j, c in outputs.items()),
            tuple((i, rounded(c * (scale or 1), form)) for i, c in inputs.items()),
            offset,
            strict,
            None if Fraction(offset) == exact else exact,
            (outputs, inputs) if scale is None else None,
        )


def _scale(numbers: Sequence[Fraction]) -> Fraction | None:
    """By what rational numbers are multiplied so that float64 holds them; None: by nothing.

    >>> _scale([Fraction(1, 2), Fraction(3)]), _scale([Fraction(1, 10), Fraction(-3, 10)])
    (Fraction(1, 1), Fraction(10, 1))
    """
    if all(_held(number) for number in numbers):
        return Fraction(1)
    least = Fraction(lcm(*(n.denominator for n in numbers)), gcd(*(n.numerator for n in numbers)))
    return least if all(_held(number * least) for number in numbers) else None


def _held(number: Fraction) -> bool:
    """Whether float64 has it."""
    try:
        return Fraction(float(number)) == number
    except OverflowError:
        return False


def _of_number(word: str, index: int, sign: float, *, is_input: bool) -> Atom | None:
    """A variable against a plain number."""
    number = _plain(word)
    if number is None:
        return None
    if is_input:
        same = Decimal(repr(number)) == Decimal(word)
        return Side(index, sign > 0, number, None if same else Fraction(word))
    if Decimal(number) == Decimal(word):
        return Row(((index, sign),), (), -sign * number)
    exact, offset = -Fraction(word) * int(sign), -sign * number
    if offset > exact:
        offset = nextafter(offset, -inf)
    return Row(((index, sign),), (), offset, exact=exact)


def _plain(word: str) -> float | None:
    """The nearest float64 of a short number that is far from the ends of their range."""
    if len(word) > 32 or NUMBER.fullmatch(word) is None:
        return None
    value = float(word)
    far = 1e-300 < abs(value) < 1e300 or not word.strip("+-0.")
    return value if far else None
