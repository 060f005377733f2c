"""Terms: linear functions of the declared variables with exact rational coefficients."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

from phalanx.specs.vnnlib.tokens import Form, Script

NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
LONGEST_NUMBER = 400
LARGEST_EXPONENT = 400


@dataclass(frozen=True)
class Linear:
    """``sum inputs[i] X_i + sum outputs[j] Y_j + constant``; coefficients may be zero."""

    inputs: dict[int, Fraction] = field(default_factory=dict)
    outputs: dict[int, Fraction] = field(default_factory=dict)
    constant: Fraction = Fraction(0)

    def plus(self, other: Linear, times: Fraction) -> Linear:
        """``self + times other``."""
        inputs, outputs = dict(self.inputs), dict(self.outputs)
        for mine, others in ((inputs, other.inputs), (outputs, other.outputs)):
            for index, value in others.items():
                mine[index] = mine.get(index, Fraction(0)) + times * value
        return Linear(inputs, outputs, self.constant + times * other.constant)

    @property
    def is_constant(self) -> bool:
        """Whether no variable is named."""
        return not self.inputs and not self.outputs


Lookup = Callable[[str], tuple[bool, int] | None]
"""Whether a word is an input (else an output), and which; None: it is no declared variable."""


@dataclass(frozen=True)
class Terms:
    """Reads terms.

    Attributes:
        script: for messages.
        lookup: see `Lookup`.
    """

    script: Script
    lookup: Lookup

    def read(self, term: Form | str, inside: Form) -> Linear:
        """A term; ``inside`` is the form that it stands in.

        Raises:
            QueryError: no number, an unknown variable, a product of variables.
        """
        if isinstance(term, str):
            return self._word(term, inside)
        parts = [self.read(part, term) for part in term[1:]]
        if term.head not in ("+", "-", "*") or not parts:
            raise self.script.wrong(
                term, f"no term: ({term.head or '...'} ...)", why="terms are made with + - and *"
            )
        if term.head == "*":
            return self._product(term, parts)
        sign = Fraction(1 if term.head == "+" else -1)
        if len(parts) == 1:
            return Linear().plus(parts[0], sign)
        total = parts[0]
        for part in parts[1:]:
            total = total.plus(part, sign)
        return total

    def _product(self, term: Form, parts: list[Linear]) -> Linear:
        variable = [part for part in parts if not part.is_constant]
        if len(variable) > 1:
            raise self.script.wrong(
                term, "a product of variables", why="properties are linear in X and Y"
            )
        factor = Fraction(1)
        for part in parts:
            factor *= part.constant if part.is_constant else 1
        return Linear().plus(variable[0] if variable else Linear(constant=Fraction(1)), factor)

    def _word(self, word: str, inside: Form) -> Linear:
        found = self.lookup(word)
        if found is not None:
            is_input, index = found
            one = {index: Fraction(1)}
            return Linear(inputs=one) if is_input else Linear(outputs=one)
        return Linear(constant=self.number(word, inside))

    def number(self, word: str, inside: Form) -> Fraction:
        """The exact value of a decimal number."""
        if NUMBER.fullmatch(word) is None:
            raise self.script.wrong(
                inside, f"{word[:40]!r} is neither a number nor a declared variable"
            )
        exponent = word.lower().partition("e")[2]
        if (
            len(word) > LONGEST_NUMBER
            or len(exponent) > 4
            or abs(int(exponent or 0)) > LARGEST_EXPONENT
        ):
            raise self.script.wrong(inside, f"the number {word[:20]}... is out of range")
        return Fraction(word)

    def rounded(self, value: Fraction, inside: Form, *, down: bool = False) -> float:
        """The nearest float64, or the next one that is not above.

        Raises:
            QueryError: it is infinite, or zero though the number is not.
        """
        try:
            found = float(value)
        except OverflowError:
            found = 0.0
        if found == 0.0 and value != 0:
            raise self.script.wrong(inside, "a number that float64 cannot hold")
        return math.nextafter(found, -math.inf) if down and found > value else found
