"""Noise keys: a 128-bit hash of what the noise is for, and of nothing else.

The key of a chunk of noise is a hash of (run seed, image, phase, chunk). It omits the
classifier, so one pass of the members serves every member, every reducer and every paired
comparison; it omits batch, worker and device, so none of them can change a result. Hashing
keeps streams apart that arithmetic on seeds would make collide: torch's CPU generator, for
one, uses 32 bits of its seed, so that seeds s and s + 2**32 give the same stream.
"""

from __future__ import annotations

import hashlib

KEY_BITS = 128


def noise_key(*parts: str | int) -> int:
    """A 128-bit key for the given parts (BLAKE2b; every part is length-prefixed and typed).

    >>> noise_key(0, "selection", 1) == noise_key(0, "selection", 1)
    True
    >>> noise_key(1, "2") == noise_key("1", 2) or noise_key("ab", "c") == noise_key("a", "bc")
    False
    >>> noise_key(0, "selection", 1).bit_length() <= 128
    True
    """
    digest = hashlib.blake2b(digest_size=KEY_BITS // 8, person=b"phalanx-noise-v1")
    for part in parts:
        text = str(part).encode()
        digest.update(f"{type(part).__name__}:{len(text)}:".encode() + text)
    return int.from_bytes(digest.digest(), "little")


def uniform_draw(*parts: str | int) -> float:
    """A number in [0, 1), the same for the same parts: 53 bits of their key.

    >>> uniform_draw(0, 1, "bound") == uniform_draw(0, 1, "bound") != uniform_draw(0, 2, "bound")
    True
    """
    return (noise_key(*parts) >> (KEY_BITS - 53)) * 2.0**-53
