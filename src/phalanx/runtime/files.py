"""Files that a user hands in, read within limits."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from phalanx.errors import PhalanxError


def read_limited(path: Path, most: int, error: type[PhalanxError]) -> bytes:
    """What is in a file, unfolded where its name ends in ``.gz``.

    Args:
        path: of the file.
        most: bytes that are read, and unfolded; a larger file is refused, not cut.
        error: what to raise.

    Raises:
        PhalanxError: of that type: the file cannot be read, or is too large.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        size = path.stat().st_size
        content = b""
        if size <= most:
            with opened(path, "rb") as file:
                content = file.read(most + 1)
    except (OSError, EOFError, zlib.error) as failure:
        raise error(f"{path} cannot be read", why=str(failure)) from failure
    if max(size, len(content)) > most:
        raise error(f"{path} has more than {most} bytes")
    return content
