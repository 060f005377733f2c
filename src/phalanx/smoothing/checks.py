"""What every part of the engine asks of a number of samples."""

from __future__ import annotations

from numbers import Integral

from phalanx.errors import ParameterError


def check_count(name: str, value: object) -> None:
    """Refuse what is no number of samples.

    Raises:
        ParameterError: not a whole number, or below 1; says ``name``.

    >>> check_count("n", 100)
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ParameterError(
            f"{name} is {value!r}", why="it is a number of samples, a whole number of at least 1"
        )
