"""`Draft`: variables and constraints of linear real arithmetic, written as SMT-LIB 2."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from phalanx.verify.smt.forms import ONE, Form


class Draft:
    """What has been written so far.

    Attributes:
        lines: declarations and assertions.
        ranges: the least and the greatest value of every variable.
        size: coefficients written, about what the text costs a solver.
        choices: disjunctions.

    >>> draft = Draft()
    >>> x = draft.variable(Fraction(0), ONE)
    >>> draft.range_of(Form({x: Fraction(-2)}, ONE))
    (Fraction(-1, 1), Fraction(1, 1))
    >>> draft.lines
    ['(declare-const v0 Real)', '(assert (<= 0 v0 1))']
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.ranges: list[tuple[Fraction, Fraction]] = []
        self.size = self.choices = 0

    def variable(self, low: Fraction, high: Fraction) -> int:
        """One more, between two numbers.

        Raises:
            RuntimeError: there is none between them: what it was meant for has no value.
        """
        if low > high:
            raise RuntimeError("two sound bounds of a value contradict each other")
        number = len(self.ranges)
        self.ranges.append((low, high))
        self.lines.append(f"(declare-const v{number} Real)")
        self.require(f"(<= {numeral(low)} v{number} {numeral(high)})")
        return number

    def standing_for(self, form: Form, low: Fraction, high: Fraction) -> int:
        """A variable that equals a form within two numbers: itself, where it is one already."""
        known = form.alone()
        if known is not None:
            return known
        number = self.variable(low, high)
        self.size += len(form.terms)
        self.require(f"(= v{number} {term(form)})")
        return number

    def require(self, sentence: str) -> None:
        """One more assertion."""
        self.lines.append(f"(assert {sentence})")

    def choose(self, sentences: Sequence[str]) -> None:
        """One of several sentences, at least."""
        self.choices += 1
        self.size += 4 * len(sentences)
        self.require(f"(or {' '.join(sentences)})")

    def range_of(self, form: Form) -> tuple[Fraction, Fraction]:
        """The least and the greatest value of a form over its variables' ranges, exactly."""
        low = high = form.constant
        for variable, share in form.terms.items():
            ends = self.ranges[variable]
            low += share * ends[share < 0]
            high += share * ends[share > 0]
        return low, high


def term(form: Form) -> str:
    """A form in SMT-LIB.

    >>> term(Form({0: ONE, 2: Fraction(-1, 2)}, Fraction(3)))
    '(+ v0 (* (- (/ 1 2)) v2) 3)'
    """
    parts = [
        f"v{variable}" if share == ONE else f"(* {numeral(share)} v{variable})"
        for variable, share in form.terms.items()
    ]
    if form.constant or not parts:
        parts.append(numeral(form.constant))
    return parts[0] if len(parts) == 1 else f"(+ {' '.join(parts)})"


def numeral(number: Fraction) -> str:
    """A rational number in SMT-LIB.

    >>> numeral(Fraction(-3)), numeral(Fraction(1, 8))
    ('(- 3)', '(/ 1 8)')
    """
    size = abs(number)
    said = str(size) if size.denominator == 1 else f"(/ {size.numerator} {size.denominator})"
    return f"(- {said})" if number < 0 else said


def both(sentences: Sequence[str]) -> str:
    """Their conjunction."""
    return sentences[0] if len(sentences) == 1 else f"(and {' '.join(sentences)})"
