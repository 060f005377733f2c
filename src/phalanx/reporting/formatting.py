"""Numbers as a reader sees them: a claim is cut, never rounded up; an interval is widened."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from statistics import fmean, stdev

ABSENT = "–"
"""What a table shows for a number that was not computed. It is not zero."""


def cut(value: float | None, digits: int = 3) -> str:
    """``value`` with ``digits`` decimals, rounded towards minus infinity.

    The binary value is cut exactly, so what is shown is never larger than what was proven.

    >>> cut(0.9999), cut(1.5), cut(0.1 + 0.2, 2), cut(None)
    ('0.999', '1.500', '0.30', '–')
    """
    return ABSENT if value is None else _quantised(Decimal(value), digits, ROUND_FLOOR)


def raised(value: float, digits: int = 3) -> str:
    """``value`` rounded towards plus infinity: the upper end of an interval.

    >>> raised(0.12341), raised(0.5)
    ('0.124', '0.500')
    """
    return _quantised(Decimal(value), digits, ROUND_CEILING)


def percent(rate: float | None, digits: int = 1) -> str:
    """A rate in percent, cut: 9,996 of 10,000 is 99.9, not 100.0.

    The shortest decimal that means ``rate`` is cut, so that 29 of 100 is 29.0 although the
    binary 0.29 lies below it.

    >>> percent(0.9996), percent(0.29), percent(1.0), percent(None)
    ('99.9', '29.0', '100.0', '–')
    """
    if rate is None:
        return ABSENT
    return _quantised(Decimal(repr(float(rate))) * 100, digits, ROUND_FLOOR)


def percent_of_runs(rates: Sequence[float]) -> str:
    """Their mean in percent, cut, with the standard deviation where there are several runs.

    >>> percent_of_runs([0.5, 0.25]), percent_of_runs([]), percent_of_runs([0.57])
    ('37.5±17.7', '', '57.0')
    """
    if not rates:
        return ""
    mean = percent(fmean(rates))
    return mean if len(rates) == 1 else f"{mean}±{100 * stdev(rates):.1f}"


def percent_interval(low: float, high: float, digits: int = 1) -> str:
    """Both ends in percent, rounded outwards.

    >>> percent_interval(0.8844, 0.9321)
    '[88.4, 93.3]'
    """
    top = _quantised(Decimal(repr(float(high))) * 100, digits, ROUND_CEILING)
    return f"[{percent(low, digits)}, {top}]"


def interval(low: float, high: float, digits: int = 3) -> str:
    """Both ends rounded outwards.

    >>> interval(0.12349, 0.2001)
    '[0.123, 0.201]'
    """
    return f"[{cut(low, digits)}, {raised(high, digits)}]"


def signed(value: float | None, digits: int = 3, *, scale: float = 1.0) -> str:
    """A difference with its sign, rounded to nearest: an estimate, not a claim.

    >>> signed(0.0124), signed(-0.5, 1, scale=100), signed(0.0)
    ('+0.012', '−50.0', '0.000')
    """
    if value is None:
        return ABSENT
    text = f"{abs(value) * scale:.{digits}f}"
    if not text.strip("0."):
        return text
    return ("−" if value < 0 else "+") + text


def signed_interval(low: float, high: float, digits: int = 3, *, scale: float = 1.0) -> str:
    """Both ends of a difference's interval, with signs, rounded to nearest.

    >>> signed_interval(-0.001, 0.02)
    '[−0.001, +0.020]'
    """
    return f"[{signed(low, digits, scale=scale)}, {signed(high, digits, scale=scale)}]"


def count(value: int | None) -> str:
    """An integer with thin groups of three.

    >>> count(100000) == "100\\u202f000", count(None)
    (True, '–')
    """
    return ABSENT if value is None else f"{value:,}".replace(",", "\u202f")


def measure(labelled: bool, measured: str = "") -> str:
    """What a rate of certificates is called.

    >>> measure(True, "top-3"), measure(False)
    ('certified top-3 accuracy', 'certified fraction')
    """
    return " ".join(filter(None, ["certified", measured, "accuracy" if labelled else "fraction"]))


def images_text(images: Iterable[int], asked: int | None = None) -> str:
    """How many images there are, and that time was up where more were asked for.

    >>> images_text([60, 60]), images_text([2], 40)
    ('60 images', '2 of 40 images: time was up')
    """
    found = " / ".join(dict.fromkeys(map(count, images)))
    return f"{found} images" if asked is None else f"{found} of {count(asked)} images: time was up"


def _quantised(value: Decimal, digits: int, rounding: str) -> str:
    text = f"{value.quantize(Decimal(1).scaleb(-digits), rounding=rounding):f}"
    return text.replace("-", "−") if text.strip("-0.") else text.lstrip("-")
