"""Answers as solvers of VNN-LIB queries print them: a word, and for ``sat`` the assignment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from phalanx.errors import QueryError
from phalanx.specs.vnnlib.query import Declared, Query
from phalanx.verify.result import Result

WORDS_OF_TWO = {"timeout": "timed-out"}
"""What version 2.0 says otherwise."""


def word_of(result: Result, version: str) -> str:
    """The first line.

    >>> from phalanx.verdicts import Verdict
    >>> word_of(Result(Verdict.UNKNOWN, "timeout", 1.0, 1), "2.0")
    'timed-out'
    """
    return said(result.word, version)


def said(word: str, version: str) -> str:
    """A word in the words of a version."""
    return WORDS_OF_TWO.get(word, word) if version == "2.0" else word


def answer_lines(result: Result, query: Query) -> Iterator[str]:
    """The word and, of a counterexample, every input and output: the numbers that were replayed.

    Numbers are written so that float64 reads them back exactly.
    """
    yield word_of(result, query.version)
    if result.witness is None:
        return
    x, y = result.witness.x.tolist(), result.witness.y.tolist()
    if query.version == "2.0":
        for tensor, numbers in ((query.inputs, x), (query.outputs, y)):
            yield _heading(tensor)
            yield from map(repr, numbers)
        return
    pairs = [f"(X_{i} {v!r})" for i, v in enumerate(x)] + [
        f"(Y_{j} {v!r})" for j, v in enumerate(y)
    ]
    yield from bracketed(pairs)


def bracketed(pairs: Sequence[str]) -> Iterator[str]:
    """Pairs, one a line, in parentheses.

    >>> list(bracketed(["(X_0 1.0)", "(Y_0 2.0)"]))
    ['((X_0 1.0)', '(Y_0 2.0))']
    """
    for at, pair in enumerate(pairs):
        yield f"{'(' if not at else ''}{pair}{')' if at + 1 == len(pairs) else ''}"


def _heading(tensor: Declared) -> str:
    return f"{tensor.name} {tensor.kind} [{','.join(map(str, tensor.shape))}]"


def require_consent(query: Query, *, idealised: bool) -> None:
    """Refuse a query about floating-point execution, of which nothing here is a proof.

    Version 1.0 speaks of reals. Version 2.0 has element types: ``real`` consents to exact
    arithmetic, ``float32`` asks about every rounding of the network.

    Raises:
        QueryError: the query's tensors are floats, and nobody has consented.
    """
    kinds = {tensor.kind.lower() for tensor in (query.inputs, query.outputs)}
    if query.version == "2.0" and kinds != {"real"} and not idealised:
        raise QueryError(
            f"the query is about tensors of type {', '.join(sorted(kinds))}",
            why="what is proven holds for the network in exact arithmetic, not for its roundings",
            repair="declare them real, or consent: --idealised, in Python idealised=True",
        )
