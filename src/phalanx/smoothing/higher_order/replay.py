"""The halves of a certificate from its ballots: the noise is drawn again, its key says which.

So a run keeps which row voted for what, whole numbers that depend on no batch, worker or order,
and no sum of vectors. Sums are exact: normals are rounded to multiples of 2^-32 and added as
integers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from phalanx.errors import ParameterError
from phalanx.noise.stream import NormalStream
from phalanx.smoothing.engine import Engine
from phalanx.smoothing.higher_order.slope import Halves, halves_of
from phalanx.smoothing.stopping import Chunk

UNIT = 2.0**-32
BLOCK = 256
"""Rows drawn at once, whatever the batch of the run was."""

Ballots = Mapping[Chunk, NDArray[np.int32]]
"""By estimation chunk: which row cast which vote, int32 ``(classifiers, rows)``."""


def halves_of_ballots(
    engine: Engine, image: int, numel: int, ballots: Ballots, labels: Sequence[int]
) -> list[Halves]:
    """The halves of every classifier for one input.

    The first half of the rows of every chunk (one more where they are odd) are the first half.

    Args:
        engine: whose noise was used; it is drawn again and nothing is classified.
        image: the input's part of the noise key.
        numel: values of one input.
        ballots: of the estimation.
        labels: each classifier's class, chosen on other samples.

    Raises:
        ParameterError: ballots of other classifiers or rows, or fewer than two rows.
    """
    sums = np.zeros((len(labels), 2, numel), dtype=np.int64)
    rows = np.zeros(2, dtype=np.int64)
    for chunk, cast in ballots.items():
        if cast.shape != (len(labels), chunk.rows):
            raise ParameterError(
                f"{cast.shape} ballots of {chunk.rows} rows by {len(labels)} classifiers"
            )
        second = np.arange(chunk.rows) >= (first := -(-chunk.rows // 2))
        rows += (first, chunk.rows - first)
        others = cast != np.asarray(labels)[:, None]
        parts = np.stack([others & ~second, others & second], axis=1)
        stream = engine.stream(image, chunk, numel)
        sums += _sums(parts.reshape(-1, chunk.rows), stream).reshape(sums.shape)
    n1, n2 = rows.tolist()
    return [halves_of(a * UNIT, b * UNIT, n1, n2) for a, b in sums]


@torch.inference_mode()
def _sums(parts: NDArray[np.bool_], stream: NormalStream) -> NDArray[np.int64]:
    """The sums of normals over sets of rows ``(sets, rows)``: int64 ``(sets, numel)``, in units."""
    sets, rows = parts.shape
    total = torch.zeros(0)
    for start in range(0, rows, BLOCK):
        wanted = parts[:, start : start + BLOCK]
        normal = stream.rows(wanted.shape[1])
        if not total.numel():
            total = torch.zeros((sets, stream.numel), dtype=torch.int64, device=normal.device)
        some = torch.from_numpy(np.flatnonzero(wanted.any(axis=0))).to(normal.device)
        if not len(some):
            continue
        units = (normal[some].double() / UNIT).round_().to(torch.int64)
        member = torch.from_numpy(wanted).to(normal.device)[:, some]
        for place in range(sets):
            total[place] += units[member[place]].sum(0)
    return total.cpu().numpy()
