"""One look for every figure: quiet axes and colours that colour-blind readers can tell apart.

Inside the HTML report the same colours are CSS variables, so figures follow light and dark.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping
from html import escape
from typing import IO, Any

import matplotlib as mpl
from matplotlib.figure import Figure

INK, MUTED, RULE = "#1d2430", "#667085", "#d5d9e0"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#aa4a8f", "#b07d00", "#3a8fc4", "#5b5f97", "#7a5c3e")
"""After Okabe and Ito (2008), darkened where their yellow and sky are too faint on white."""
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.6)), (0, (1.2, 1.2)))
GOOD, BAD, IDLE = "#0072b2", "#d55e00", "#8a93a3"

VARIABLES: Mapping[str, str] = {
    INK: "--ink",
    MUTED: "--muted",
    RULE: "--rule",
    IDLE: "--idle",
    **{colour: f"--series-{index}" for index, colour in enumerate(SERIES)},
}


def series(index: int) -> tuple[str, Any]:
    """Colour and dash of the ``index``-th series; dashes change once the colours are used up."""
    return SERIES[index % len(SERIES)], DASHES[index // len(SERIES) % len(DASHES)]


def rc(salt: str = "phalanx") -> Mapping[str, Any]:
    """Matplotlib settings for one figure; ``salt`` makes the SVG's ids repeatable and its own."""
    return {
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": 9.5,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": RULE,
        "axes.linewidth": 0.9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.axisbelow": True,
        "axes.titlesize": 10,
        "axes.titlelocation": "left",
        "grid.color": RULE,
        "grid.linewidth": 0.7,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.major.size": 3.5,
        "ytick.major.size": 0,
        "legend.frameon": False,
        "legend.fontsize": 9,
        "text.parse_math": False,  # names are the user's; a dollar is a dollar
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
        "savefig.dpi": 200,
    }


def save(figure: Figure, target: IO[Any], *, salt: str, **options: Any) -> None:
    """``figure.savefig`` under our settings; a glyph the font lacks is drawn as a box."""
    with mpl.rc_context(dict(rc(salt))), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure.savefig(target, **options)


def figure_svg(figure: Figure, *, label: str, salt: str) -> str:
    """``figure`` as an ``<svg>`` element to put into a page.

    Text stays text, colours become the page's CSS variables, width follows the page, and the
    same figure gives the same bytes.

    Args:
        figure: drawn under ``rc(salt)``.
        label: what the figure shows, for readers who cannot see it; plain text.
        salt: any string that differs between the figures of one page.
    """
    buffer = io.StringIO()
    metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    save(figure, buffer, salt=salt, format="svg", transparent=True, metadata=metadata)
    return _inline(buffer.getvalue(), label)


def _inline(document: str, label: str) -> str:
    svg = document[document.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    view = re.search(r'viewBox="[^"]*"', svg)
    box = view.group(0) if view else ""
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    head = f'<svg {names} {box} role="img" aria-label="{escape(label, quote=True)}">'
    svg = re.sub(r"^<svg[^>]*>", lambda _: head, svg)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return re.sub(r"\n\s*", "\n", svg).strip()
