"""One file over HTTP: resumed, bounded, verified, and only then given its name.

Bytes go to ``NAME.part``. A run that is interrupted leaves it, the next one asks the server
for the rest (``Range``, RFC 9110 section 14), and the file is renamed when its SHA-256 is the
expected one. Nothing but http and https is ever opened, also after a redirect.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPMessage
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from phalanx.data.files import storing
from phalanx.data.sources import RemoteFile
from phalanx.errors import DataError, ParameterError

Progress = Callable[[str, int, int], None]
"""``progress(file name, bytes so far, bytes in all)``."""

CHUNK = 1 << 16
ATTEMPTS = 3
"""Connections to one mirror before the next is tried; each continues where the last stopped."""

TIMEOUT = 30.0
"""Seconds without a byte after which a connection is given up."""


def download(
    file: RemoteFile,
    mirrors: Sequence[str],
    target: Path,
    *,
    progress: Progress | None = None,
    timeout: float = TIMEOUT,
) -> None:
    """Bring one file from the first mirror that has it to ``target``.

    Args:
        file: name, size and digest that are expected.
        mirrors: base addresses, tried in order.
        target: the finished file; its folder must exist.
        progress: called while bytes arrive.
        timeout: seconds without a byte before a connection is given up.

    Raises:
        ParameterError: a mirror is not an http or https address.
        DataError: no mirror delivered the expected bytes; the message says what each did.
        StorageError: the disk refused a write.
    """
    part = _Part(target.with_name(target.name + ".part"), file, progress or _silent)
    reasons = []
    for mirror in mirrors:
        url = check_address(mirror).rstrip("/") + "/" + file.name
        for _ in range(ATTEMPTS):
            try:
                _continue(url, part, timeout)
            except _Attempt as failure:
                reasons.append(f"{url}: {failure}")
                if failure.final:
                    break
                continue
            part.finish(target)
            return
    raise DataError(
        f"{file.name} could not be downloaded",
        why=" | ".join(dict.fromkeys(reasons)),
        repair="run the same command again to continue, or name a mirror with --from URL",
    )


def check_address(url: str) -> str:
    """``url`` if it is an http or https address with a host, else a `ParameterError`."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ParameterError(
            f"{url!r} is not a web address",
            why="files are downloaded over http and https only",
            repair="--from https://HOST/FOLDER",
        )
    return url


class _Attempt(Exception):
    """One connection failed; ``final`` when trying the same mirror again is useless."""

    def __init__(self, reason: str, *, final: bool = False) -> None:
        self.final = final
        super().__init__(reason)


@dataclass
class _Part:
    """The unfinished file and what it should become."""

    path: Path
    file: RemoteFile
    progress: Progress

    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def write(self, chunks: Iterator[bytes], start: int) -> None:
        """Write the chunks from offset ``start`` on; a server that sends too much is cut off."""
        written = start
        with storing(self.path), self.path.open("r+b" if start else "wb") as stream:
            stream.seek(start)
            stream.truncate()
            for chunk in chunks:
                written += len(chunk)
                if written > self.file.size:
                    break
                stream.write(chunk)
                self.progress(self.file.name, written, self.file.size)
        if written > self.file.size:
            self.path.unlink()
            raise _Attempt(f"more than the expected {self.file.size} bytes", final=True)

    def verify(self) -> None:
        """Check size and digest; wrong bytes are thrown away, missing ones are not."""
        if self.size() < self.file.size:
            raise _Attempt(f"interrupted after {self.size()} of {self.file.size} bytes")
        with storing(self.path), self.path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest != self.file.sha256:
            self.path.unlink()
            raise _Attempt(f"SHA-256 {digest} instead of {self.file.sha256}", final=True)

    def finish(self, target: Path) -> None:
        with storing(target):
            os.replace(self.path, target)


def _continue(url: str, part: _Part, timeout: float) -> None:
    """One connection: ask for what is missing, append it, verify the whole."""
    start = part.size()
    if start > part.file.size:
        start = 0
    if start < part.file.size:
        with _open(url, start, timeout) as response:
            start = _offset(response, start)
            part.write(_chunks(response), start)
    try:
        part.verify()
    except _Attempt as failure:
        # bytes of an earlier run may be the wrong ones: the same mirror deserves a fresh start
        raise _Attempt(str(failure), final=failure.final and start == 0) from failure


def _open(url: str, start: int, timeout: float) -> http.client.HTTPResponse:
    headers = {"User-Agent": "phalanx", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        return _opener().open(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        final = error.code < HTTPStatus.INTERNAL_SERVER_ERROR
        raise _Attempt(f"HTTP {error.code} {error.reason}", final=final) from error
    except (OSError, http.client.HTTPException) as error:
        raise _Attempt(str(error) or type(error).__name__) from error


def _offset(response: http.client.HTTPResponse, asked: int) -> int:
    """Where the body belongs: a server that ignores ``Range`` sends the file from the start."""
    if response.status != HTTPStatus.PARTIAL_CONTENT:
        return 0
    sent = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    if sent is None or int(sent[1]) != asked:
        raise _Attempt("the server sent another range than the one asked for", final=True)
    return asked


def _chunks(response: IO[bytes]) -> Iterator[bytes]:
    while True:
        try:
            chunk = response.read(CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise _Attempt(str(error) or type(error).__name__) from error
        if not chunk:
            return
        yield chunk


class _WebOnly(urllib.request.HTTPRedirectHandler):
    def redirect_request(  # noqa: PLR0917  (the signature is urllib's)
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        scheme = urlsplit(newurl).scheme
        if scheme not in ("http", "https") or (req.type == "https" and scheme == "http"):
            fp.close()
            raise _Attempt(f"refused a redirect to {newurl}", final=True)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """An opener without the handlers for file:, ftp: and data: that urllib adds by default."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        _WebOnly,
    ):
        opener.add_handler(handler())
    return opener


def _silent(name: str, done: int, total: int) -> None:
    """Progress for nobody."""
