"""The field's log: one line an image, ``idx label predict radius correct time``.

Cohen et al. 2019 write it; others print radii with three digits, leave out the time, use
commas or add count columns. Reading refuses what contradicts itself and names the line.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from phalanx.errors import RunError

ABSTAIN = -1
"""``predict`` of an abstention; as a ``label`` it means that there is none."""

_REQUIRED = ("idx", "label", "predict", "radius", "correct")
_NAMES = {
    "idx": ("idx", "index", "image", "id"),
    "label": ("label", "y", "target"),
    "predict": ("predict", "prediction", "predicted"),
    "radius": ("radius", "r"),
    "correct": ("correct",),
    "time": ("time", "seconds"),
    "n_a": ("na", "n_a", "count", "counts", "na_min"),
    "n_a_max": ("na_max",),
    "n": ("n", "samples"),
}
# str(datetime.timedelta): "1 day, 2:03:04.5"
_DURATION = re.compile(
    r"^(?:(?P<days>\d+) days?, )?(?P<h>\d+):(?P<m>\d{1,2}):(?P<s>\d{1,2}(?:\.\d*)?)$"
)


@dataclass(frozen=True)
class LogRow:
    """One line of a log.

    Attributes:
        line: its number in the file, from 1.
        image, label, predicted: indices; None for no label, for an abstention.
        radius_text: the radius exactly as published.
        correct: as published (None without a label).
        seconds: None where the log has no time.
        n_a, n_a_max: smallest and largest count that the log allows, None where unknown; a log
            with exact counts has them equal.
        n: estimation samples of this image, None where the log does not say.
    """

    line: int
    image: int
    label: int | None
    predicted: int | None
    radius_text: str
    correct: bool | None
    seconds: float | None = None
    n_a: int | None = None
    n_a_max: int | None = None
    n: int | None = None

    @property
    def radius(self) -> float:
        """The radius as a number, in input units."""
        return float(self.radius_text)


def read_log(path: Path) -> list[LogRow]:
    """Read a log. Tabs or commas; columns in any order, header in any case, others ignored.

    Raises:
        RunError: not such a log, or a line that contradicts itself; the message names it.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise RunError(f"there is no file {path}") from None
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise RunError(f"{path} is not a log", why=str(error)) from error
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise RunError(f"{path} is empty", why="a log has a header line and one line an image")
    separator = "\t" if "\t" in lines[0][1] else ","
    columns = _columns(next(csv.reader([lines[0][1]], delimiter=separator)), path)
    rows, seen = [], dict[int, int]()
    for number, line in lines[1:]:
        row = _Line(path, number, next(csv.reader([line], delimiter=separator)), columns).row()
        if row.image in seen:
            raise RunError(
                f"{path} line {number}: image {row.image} again",
                why=(f"it is on line {seen[row.image]} already"),
            )
        seen[row.image] = number
        rows.append(row)
    if not rows:
        raise RunError(f"{path} has a header and no images")
    return rows


def _columns(header: Sequence[str], path: Path) -> dict[str, int]:
    given = [name.strip().lower() for name in header]
    found = {
        column: given.index(name)
        for column, names in _NAMES.items()
        for name in reversed(names)
        if name in given
    }
    missing = [column for column in _REQUIRED if column not in found]
    if missing:
        raise RunError(
            f"{path} has no column {', '.join(missing)}",
            why=f"its first line is {', '.join(header)!r}",
            repair="the first line names the columns: idx label predict radius correct time",
        )
    return found


@dataclass(frozen=True)
class _Line:
    path: Path
    number: int
    fields: Sequence[str]
    columns: Mapping[str, int]

    def row(self) -> LogRow:
        """The line as a row, if it does not contradict itself."""
        label, predicted = self._whole("label"), self._whole("predict")
        row = LogRow(
            line=self.number,
            image=self._whole("idx"),
            label=None if label == ABSTAIN else label,
            predicted=None if predicted == ABSTAIN else predicted,
            radius_text=self._text("radius"),
            correct=None if label == ABSTAIN else self._flag("correct"),
            seconds=self._seconds(),
            n_a=self._count("n_a"),
            n_a_max=self._count("n_a_max") if "n_a_max" in self.columns else self._count("n_a"),
            n=self._count("n"),
        )
        self._check(row)
        return row

    def _check(self, row: LogRow) -> None:
        radius = self._number("radius")
        if not (math.isfinite(radius) and radius >= 0):
            raise self._wrong(f"radius {row.radius_text} is no radius", "finite and >= 0")
        if row.image < 0 or min(row.label or 0, row.predicted or 0) < 0:
            raise self._wrong("a negative index", f"only predict and label may be {ABSTAIN}")
        if row.predicted is None and radius > 0:
            raise self._wrong(f"abstained with radius {row.radius_text}", "an abstention has none")
        if row.label is not None and row.correct != (row.label == row.predicted):
            raise self._wrong(
                f"correct is {int(bool(row.correct))}",
                f"label is {row.label} and predict is {self._text('predict')}",
            )
        if row.n_a is not None and row.n is not None and row.n_a > row.n:
            raise self._wrong(f"{row.n_a} votes of {row.n}", "a count is at most n")

    def _text(self, column: str) -> str:
        position = self.columns[column]
        if position >= len(self.fields):
            raise self._wrong(f"there is no {column}", f"it has {len(self.fields)} fields")
        return self.fields[position].strip()

    def _number(self, column: str) -> float:
        try:
            return float(self._text(column))
        except ValueError:
            raise self._wrong(f"{column} {self._text(column)!r}", "it is no number") from None

    def _whole(self, column: str) -> int:
        value = self._number(column)
        if not value.is_integer():
            raise self._wrong(f"{column} {self._text(column)!r}", "it is no whole number")
        return int(value)

    def _flag(self, column: str) -> bool:
        text = self._text(column).lower()
        known = {"0": False, "1": True, "false": False, "true": True, "0.0": False, "1.0": True}
        if text not in known:
            raise self._wrong(f"{column} {text!r}", "it is 0 or 1")
        return known[text]

    def _count(self, column: str) -> int | None:
        """A count, None where there is no such column, nothing in it, or -1."""
        if column not in self.columns or not self._text(column):
            return None
        value = self._whole(column)
        if value < ABSTAIN:
            raise self._wrong(f"{column} {value}", "a count is not negative")
        return None if value == ABSTAIN else value

    def _seconds(self) -> float | None:
        if "time" not in self.columns or not self._text("time"):
            return None
        text = self._text("time")
        found = _DURATION.match(text)
        if found:
            hours = 24 * int(found["days"] or 0) + int(found["h"])
            return 3600.0 * hours + 60.0 * int(found["m"]) + float(found["s"])
        value = self._number("time")
        if not (math.isfinite(value) and value >= 0):
            raise self._wrong(f"time {text}", "it is finite and >= 0")
        return value

    def _wrong(self, what: str, why: str) -> RunError:
        return RunError(f"{self.path} line {self.number}: {what}", why=why)


def log_lines(rows: Sequence[LogRow], *, counts: bool = False) -> Iterator[str]:
    """The lines of a log, header first; the time column only where every row has one.

    >>> list(log_lines([LogRow(2, 0, 7, None, "0.0", False)]))[1].split()
    ['0', '7', '-1', '0.0', '0']
    """
    timed = all(row.seconds is not None for row in rows)
    extra = ["nA", "n"] if counts else []
    yield "\t".join([*_REQUIRED, *(["time"] if timed else []), *extra])
    for row in rows:
        label, predicted, n_a, n = (
            ABSTAIN if value is None else value
            for value in (row.label, row.predicted, row.n_a, row.n)
        )
        fields = [row.image, label, predicted, row.radius_text, int(bool(row.correct))]
        times = [_duration(row.seconds)] if timed and row.seconds is not None else []
        yield "\t".join(map(str, [*fields, *times, *([n_a, n] if counts else [])]))


def _duration(seconds: float) -> str:
    whole, rest = divmod(round(seconds * 1_000_000), 1_000_000)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}.{rest:06}"
