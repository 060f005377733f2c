"""Files written independently of the readers, and a web server that misbehaves on request."""

from __future__ import annotations

import gzip
import hashlib
import struct
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np

from phalanx.data.sources import RemoteFile


def idx_bytes(array: np.ndarray) -> bytes:
    """An IDX file of bytes, written independently of the reader."""
    head = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(np.uint8).tobytes()


def write_mnist(folder: Path, images: np.ndarray, labels: np.ndarray, *, zipped: bool) -> None:
    """Both splits of a small MNIST."""
    folder.mkdir(parents=True, exist_ok=True)
    for prefix in ("train", "t10k"):
        for part, array in (("images-idx3", images), ("labels-idx1", labels)):
            name, content = f"{prefix}-{part}-ubyte", idx_bytes(array)
            path = folder / (name + ".gz" if zipped else name)
            path.write_bytes(gzip.compress(content) if zipped else content)


def remote(content: bytes, name: str = "f.gz", members: tuple[str, ...] = ()) -> RemoteFile:
    """What the catalogue would say of these bytes."""
    return RemoteFile(name, len(content), hashlib.sha256(content).hexdigest(), members)


class Web:
    """A server on 127.0.0.1: ``files`` by path, and how it misbehaves."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.ranges: list[str | None] = []
        self.honour_ranges = True
        self.cut_after: list[int] = []
        self.base = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        name = request.path.lstrip("/")
        asked = request.headers.get("Range")
        self.ranges.append(asked)
        if name in self.redirects:
            request.send_response(302)
            request.send_header("Location", self.redirects[name])
            request.end_headers()
            return
        if name not in self.files:
            request.send_error(404)
            return
        content, start = self.files[name], 0
        if asked and self.honour_ranges:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            request.send_response(200)
        request.send_header("Content-Length", str(len(content) - start))
        request.end_headers()
        body = content[start:]
        request.wfile.write(body[: self.cut_after.pop(0)] if self.cut_after else body)
