"""Tables as values: one `Table` for the terminal, the notebook and the HTML report."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Cell:
    """One entry: the figure, and its interval or remark in smaller print."""

    text: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.text} {self.detail}".strip()


@dataclass(frozen=True)
class Table:
    """Rows under columns; the first column names the row, the others are right-aligned.

    Attributes:
        title: what the rows are.
        columns: headings, one a column.
        rows: equally many cells each.
        primary: index of the row to set in bold, or None.
        note: a sentence below the table: units, and which intervals these are.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    primary: int | None = None
    note: str = ""

    def lines(self) -> list[list[str]]:
        """The rows as text, a cell's remark behind its figure."""
        return [[str(cell) for cell in row] for row in self.rows]

    def text(self) -> str:
        """Aligned plain text with title and note; remarks stand below their figures.

        >>> print(Table("t", ("name", "acr"), ((Cell("mean"), Cell("1.5", "[1.4, 1.6]")),)).text())
        t
        name         acr
        mean         1.5
              [1.4, 1.6]
        """
        lines = [self.columns]
        for row in self.rows:
            lines.append(tuple(cell.text for cell in row))
            if any(cell.detail for cell in row):
                lines.append(tuple(cell.detail for cell in row))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        body = [_aligned(line, widths) for line in lines]
        return "\n".join(filter(None, [self.title, *body, self.note]))

    def html(self) -> str:
        """A ``<table>`` in a box that scrolls sideways; every text is escaped."""
        if not self.rows:
            return ""
        head = "".join(f'<th scope="col">{escape(column)}</th>' for column in self.columns)
        body = "\n".join(self._row_html(i, row) for i, row in enumerate(self.rows))
        note = f'<p class="note">{escape(self.note)}</p>' if self.note else ""
        return (
            f'<div class="wide"><table aria-label="{escape(self.title, quote=True)}">\n'
            f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>\n{note}"
        )

    def _row_html(self, index: int, row: tuple[Cell, ...]) -> str:
        kind = ' class="primary"' if index == self.primary else ""
        cells = "".join(
            f"<td>{escape(cell.text)}"
            + (f"<small>{escape(cell.detail)}</small>" if cell.detail else "")
            + "</td>"
            for cell in row
        )
        return f"<tr{kind}>{cells}</tr>"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return f"<strong>{escape(self.title)}</strong>{self.html()}"

    def __str__(self) -> str:
        return self.text()


def _aligned(line: tuple[str, ...], widths: list[int]) -> str:
    first, *others = (
        text.rjust(width) if i else text.ljust(width)
        for i, (text, width) in enumerate(zip(line, widths, strict=True))
    )
    return "  ".join([first, *others]).rstrip()
