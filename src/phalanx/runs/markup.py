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
    "\N{NARROW NO-BREAK SPACE}": r"\,",
}


def render(
    columns: Sequence[str], rows: Sequence[Sequence[str]], form: str, caption: str = ""
) -> str:
    r"""The table as text; the first column to the left, the others to the right.

    Args:
        columns: headings.
        rows: equally many cells each.
        form: one of `FORMS`.
        caption: what the table shows; below it in Markdown, a float's caption in LaTeX. CSV,
            which programs read, goes without.

    Raises:
        ParameterError: an unknown form.

    >>> print(render(["r", "a_1"], [["0", "50 %"]], "markdown"))
    | r | a_1 |
    |:--|--:|
    | 0 | 50 % |
    >>> print(render(["r", "a_1"], [["0", "50 %"]], "csv"))
    r,a_1
    0,50 %
    >>> print(render(["r"], [["0"]], "latex", "1\u202f000 images").splitlines()[3])
    \caption{1\,000 images}
    """
    if form not in FORMS:
        raise ParameterError(f"there is no table format {form!r}", repair=", ".join(FORMS))
    if form == "csv":
        return _csv(columns, rows)
    return (_markdown if form == "markdown" else _latex)(columns, rows, caption)


def _csv(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    return text.getvalue().rstrip("\n")


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"

    rule = "|:--|" + "--:|" * (len(columns) - 1)
    return "\n".join([line(columns), rule, *map(line, rows), *(["", caption] if caption else [])])


def _latex(columns: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    def line(cells: Sequence[str]) -> str:
        return " & ".join(map(_escaped, cells)) + r" \\"

    table = [
        rf"\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}",
        r"\toprule",
        line(columns),
        r"\midrule",
        *map(line, rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    if caption:
        top = [r"\begin{table}", r"\centering", rf"\caption{{{_escaped(caption)}}}"]
        table = [*top, *table, r"\end{table}"]
    return "\n".join(["% needs \\usepackage{booktabs}", *table])


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
