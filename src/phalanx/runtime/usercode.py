"""Other people's Python: its failures told in one line."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from phalanx.errors import ModelError, PhalanxError

_OURS = str(Path(__file__).resolve().parent.parent)


@contextmanager
def user_code(doing: str) -> Iterator[None]:
    """Turn whatever the code inside raises into a `ModelError` with its message and line.

    Someone else's code may raise anything, ``SystemExit`` included; our own errors pass.
    """
    try:
        yield
    except PhalanxError:
        raise
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"{doing} failed: {type(error).__name__}: {error}", why=_where(error)
        ) from error


def _where(error: BaseException) -> str:
    """The innermost line outside phalanx and Python's import machinery."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((_OURS, "<frozen"))
    ]
    if isinstance(error, SyntaxError) and error.filename:
        return f"at {error.filename}:{error.lineno}"
    if not frames:
        return ""
    last = frames[-1]
    return f"at {last.filename}:{last.lineno} in {last.name}: {last.line}"
