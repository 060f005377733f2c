"""A table as CSV, Markdown or LaTeX, to paste where it is needed."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from phalanx.errors import ParameterError

FORMS = ("csv", "markdown", "latex")
_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\N{MINUS SIGN}": "$-$",
    "\N{EN DASH}": "--",
}


def render(columns: Sequence[str], rows: Sequence[Sequence[str]], form: str) -> str:
    """The table as text; the first column to the left, the others to the right.

    Raises:
        ParameterError: an unknown form.

    >>> print(render(["r", "a_1"], [["0", "50 %"]], "markdown"))
    | r | a_1 |
    |:--|--:|
    | 0 | 50 % |
    >>> print(render(["r", "a_1"], [["0", "50 %"]], "csv"))
    r,a_1
    0,50 %
    """
    writers = {"csv": _csv, "markdown": _markdown, "latex": _latex}
    if form not in writers:
        raise ParameterError(f"there is no table format {form!r}", repair=", ".join(FORMS))
    return writers[form](columns, rows)


def _csv(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    return text.getvalue().rstrip("\n")


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"

    rule = "|:--|" + "--:|" * (len(columns) - 1)
    return "\n".join([line(columns), rule, *map(line, rows)])


def _latex(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str]) -> str:
        return " & ".join("".join(_LATEX.get(c, c) for c in cell) for cell in cells) + r" \\"

    return "\n".join(
        [
            rf"\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}",
            r"\toprule",
            line(columns),
            r"\midrule",
            *map(line, rows),
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )
