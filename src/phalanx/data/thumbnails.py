"""Small images as PNG bytes, so that a run can show what it certified.

Written with zlib alone: reports must not need an image library. The format is that of the
PNG specification (ISO/IEC 15948): signature, IHDR, one IDAT, IEND.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from torch import Tensor

LARGEST = 64
SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOUR_TYPE = {1: 0, 3: 2}
"""PNG colour types by number of channels: grey and RGB."""


def thumbnail(x: Tensor, value_range: tuple[float, float] = (0.0, 1.0)) -> bytes | None:
    """A PNG of one image, or None where there is nothing small to show.

    Args:
        x: ``(C, H, W)`` in ``value_range``; values outside are clipped, NaN becomes black.
        value_range: the values that become black and white.

    Returns:
        PNG bytes for 1 or 3 channels of at most 64x64 pixels; otherwise None. Bytes divided
        by 255 come back exactly.
    """
    if x.ndim != 3 or x.shape[0] not in COLOUR_TYPE or max(x.shape[1:]) > LARGEST or not x.numel():
        return None
    low, high = value_range
    scaled = (x.detach().cpu().double().numpy() - low) / (high - low)
    clipped = np.clip(np.nan_to_num(scaled, nan=0.0), 0.0, 1.0)
    pixels = np.rint(clipped * 255).astype(np.uint8).transpose(1, 2, 0)
    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, COLOUR_TYPE[channels], 0, 0, 0)
    # every row starts with its filter type, 0 = none
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return SIGNATURE + b"".join(_chunk(kind, body) for kind, body in chunks)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
