"""Properties in VNN-LIB files, versions 1.0 and 2.0.

A file is read as it is written or not at all: every character belongs to a form that is known,
every variable is declared, every input bounded, and outputs are constrained in every case. Numbers
are read as the nearest float64. `read` returns a `Query`: the property, and what the file calls
things.
"""

from __future__ import annotations

from pathlib import Path

from phalanx.errors import QueryError
from phalanx.runtime.files import read_limited
from phalanx.specs.vnnlib.query import Query
from phalanx.specs.vnnlib.tokens import scan

LARGEST_FILE = 1 << 26
"""Bytes of a file, and of what a compressed one unfolds into."""

SUFFIXES = (".vnnlib", ".vnnlib.gz")


def read(path: Path | str) -> Query:
    """The query in a file (``.vnnlib`` or ``.vnnlib.gz``).

    Raises:
        QueryError: the file cannot be read, is too large, or is not of the language; says where.
    """
    path = Path(path)
    try:
        text = read_limited(path, LARGEST_FILE, QueryError).decode()
    except UnicodeDecodeError as error:
        raise QueryError(f"{path} is no text", why=str(error)) from error
    name = path.name.removesuffix(".gz").removesuffix(".vnnlib")
    return parse(text, name=name, source=str(path))


def parse(text: str, *, name: str = "property", source: str = "the query") -> Query:
    """The query in a text.

    >>> query = parse('''
    ... (declare-const X_0 Real) (declare-const Y_0 Real)
    ... (assert (<= X_0 1)) (assert (>= X_0 -1)) (assert (>= Y_0 2.5))''')
    >>> case, = query.property.cases
    >>> case.lower.tolist(), case.outputs.tolist(), case.offset.tolist()
    ([-1.0], [[-1.0]], [2.5])
    """
    from phalanx.specs.vnnlib import one, two

    script = scan(text, source)
    return (two if two.is_version_two(script) else one).interpret(script, name)
