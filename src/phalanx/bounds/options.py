"""`Options`: what bounding methods may be told, checked once for Python and the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

from phalanx.errors import ParameterError

LAYERS, SLOPES = ("none", "layers", "full"), ("rows", "shared")
JACOBIANS = ("fastlip", "recurjac")
GROUPS = (2, 3)


@dataclass(frozen=True)
class Options:
    """What a method may be told; each says where it is registered which of these it reads.

    Attributes:
        iterations: steps of those that optimise, from 1.
        step: their step size, above 0.
        layers: what becomes of the bounds in between under alpha-CROWN: ``none``: they are CROWN's;
            ``layers``: each is optimised for itself before; ``full``: all for the output's sake.
        slopes: with ``full``, whether each entry in between has slopes of its own (``rows``) or
            those of a layer share them (``shared``).
        enough: rows whose bound is above it are not optimised further; None: all are.
        cuts: rounds in which ``lp`` and ``kpoly`` add the cuts of Tjandraatmadja et al. (2020).
        group: how many ReLUs ``kpoly`` takes together: 2 or 3.
        jacobians: how ``lipschitz`` bounds them: ``fastlip`` or ``recurjac``.
        seconds: of each linear program (of a complete method: of each input), above 0; None: as
            long as it takes. With a limit, answers depend on the machine.

    Raises:
        ParameterError: a value of another type or out of range.

    >>> Options(group=9)
    Traceback (most recent call last):
    phalanx.errors.ParameterError: group is 9; it is 2 or 3; repair: group=2
    """

    iterations: int = 16
    step: float = 0.2
    layers: str = "none"
    slopes: str = "rows"
    enough: float | None = None
    cuts: int = 0
    group: int = 2
    jacobians: str = "fastlip"
    seconds: float | None = None

    def __post_init__(self) -> None:
        for option in fields(self):
            value, (fits, meaning) = getattr(self, option.name), _RANGES[option.name]
            if not fits(value):
                usual = f"{option.name}={option.default}"
                raise ParameterError(
                    f"{option.name} is {value!r}",
                    why=f"it is {meaning}",
                    repair="leave it out" if option.default is None else usual,
                )


Range = tuple[Callable[[object], bool], str]
"""Whether an option may have a value, and which values it may have, in words."""


def _whole(least: int) -> Range:
    return lambda value: type(value) is int and value >= least, f"a whole number from {least}"


def _number(above: float | None = None, *, absent: bool = False) -> Range:
    """What a float can be, neither NaN nor infinite, nor a truth value; None with ``absent``."""
    least, most = -sys.float_info.max if above is None else above, sys.float_info.max

    def fits(value: object) -> bool:
        if value is None:
            return absent
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return least <= value <= most and value != above

    return fits, "a finite number" if above is None else f"a finite number above {above:g}"


def _one_of(*choices: int | str) -> Range:
    """One of them in its own type: True is no 1."""
    said = f"{', '.join(map(str, choices[:-1]))} or {choices[-1]}"
    return lambda value: any(type(value) is type(one) and value == one for one in choices), said


_RANGES: Mapping[str, Range] = {
    "iterations": _whole(1),
    "step": _number(above=0),
    "layers": _one_of(*LAYERS),
    "slopes": _one_of(*SLOPES),
    "enough": _number(absent=True),
    "cuts": _whole(0),
    "group": _one_of(*GROUPS),
    "jacobians": _one_of(*JACOBIANS),
    "seconds": _number(above=0, absent=True),
}
