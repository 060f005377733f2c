"""The engine: a generator of vote counts, chunk by chunk.

It is built from independent parts - noise, members, base classifiers, and whoever says which
chunk comes next - and knows nothing of bounds, radii or stopping rules. Rows of many chunks
and images share each forward pass; every pass has one batch shape, the last one padded, so
that neither resume nor sharding nor the company an image keeps can change a count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from phalanx.errors import ModelError
from phalanx.noise.distributions import Noise
from phalanx.noise.stream import NormalStream
from phalanx.runs.schema import INVALID, Counts
from phalanx.runtime.keys import noise_key
from phalanx.smoothing.bank import MemberBank
from phalanx.smoothing.classifiers import BaseClassifier
from phalanx.smoothing.stopping import Chunk

BLOCK_ROWS = 1024
"""Rows whose logits are gathered before they are reduced to votes (saves small kernels)."""


class Work(NamedTuple):
    """One chunk to count: which noise, around which input ``x`` ``(*shape)``."""

    image: int
    chunk: Chunk
    x: Tensor


class Counted(NamedTuple):
    """The votes of one chunk: one `Counts` per base classifier, in their order."""

    image: int
    chunk: Chunk
    counts: Sequence[Counts]


NextWork = Callable[[], Work | None]
"""Called whenever the batch has room; None while nothing is left to start."""

OnPass = Callable[[int], None]
"""Called after each forward pass with the rows it answered."""


def _ignore(rows: int) -> None:
    """Nobody watches."""


@dataclass
class _InFlight:
    """A chunk that is being counted; ``tally`` is ``(classifiers, classes + 1)`` on device."""

    work: Work
    stream: NormalStream
    tally: Tensor
    drawn: int = 0
    counted: int = 0

    @property
    def missing(self) -> int:
        return self.work.chunk.rows - self.drawn


@dataclass
class _Block:
    """Logits of several forward passes, waiting to be reduced together."""

    logits: list[Tensor] = field(default_factory=list)
    owners: list[tuple[_InFlight, int]] = field(default_factory=list)
    rows: int = 0


class Engine:
    """Counts votes of base classifiers under keyed noise.

    Args:
        bank: the members, ready to run.
        classifiers: who votes; all share one forward pass.
        noise: what is added to the input.
        seed: the run seed, part of every noise key.
        batch: rows of every forward pass, fixed for the run.
        generator: name of the noise generator, fixed for the run.
    """

    def __init__(
        self,
        bank: MemberBank,
        classifiers: Sequence[BaseClassifier],
        noise: Noise,
        *,
        seed: int,
        batch: int,
        generator: str,
    ) -> None:
        self.bank, self.classifiers, self.noise = bank, list(classifiers), noise
        self.seed, self.batch, self.generator = seed, batch, generator
        self._voters = [classifier.voter() for classifier in self.classifiers]

    @torch.inference_mode()
    def run(self, next_work: NextWork, on_pass: OnPass = _ignore) -> Iterator[Counted]:
        """Yield each chunk's votes as soon as all its rows have voted.

        Args:
            next_work: asked for another chunk whenever the batch has room.
            on_pass: told of every forward pass and how many rows it answered.
        """
        buffer = torch.empty(0)  # made when the first input is seen
        current: _InFlight | None = None
        block = _Block()
        while True:
            filled = 0
            while filled < self.batch:
                if current is None or current.missing == 0:
                    current = self._start(next_work())
                    if current is None:
                        break
                    buffer = self._buffer(buffer, current.work.x)
                taken = min(self.batch - filled, current.missing)
                self.noise.fill(buffer[filled : filled + taken], current.work.x, current.stream)
                block.owners.append((current, taken))
                current.drawn += taken
                filled += taken
            if filled:
                buffer[filled:].zero_()
                block.logits.append(self._forward(buffer)[:, :filled])
                block.rows += filled
                on_pass(filled)
            if block.rows >= BLOCK_ROWS or filled < self.batch:
                done = self._reduce(block)
                block = _Block()
                yield from map(self._counted, done)
                if not filled:
                    return

    def _start(self, work: Work | None) -> _InFlight | None:
        if work is None:
            return None
        key = noise_key(self.seed, work.image, work.chunk.phase, work.chunk.index)
        device = self.bank.device
        stream = NormalStream(key, work.x.numel(), device, self.generator)
        shape = (len(self.classifiers), self.bank.classes + 1)
        tally = torch.zeros(shape, dtype=torch.int64, device=device)
        return _InFlight(work._replace(x=work.x.to(device)), stream, tally)

    def _buffer(self, buffer: Tensor, x: Tensor) -> Tensor:
        if not buffer.numel():
            return self.bank.buffer(self.batch, x.shape)
        if buffer.shape[1:] != x.shape:
            raise ModelError(
                f"inputs of shape {tuple(x.shape)} and {tuple(buffer.shape[1:])} in one run",
                why="every forward pass of a run has one recorded shape",
            )
        return buffer

    def _forward(self, buffer: Tensor) -> Tensor:
        try:
            return self.bank.logits(buffer)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise ModelError(
                f"the network failed on a batch of shape {tuple(buffer.shape)}", why=str(error)
            ) from error

    def _reduce(self, block: _Block) -> list[_InFlight]:
        """Turn a block of logits into votes; returns the chunks that are complete."""
        if not block.rows:
            return []
        logits = torch.cat(block.logits, dim=1) if len(block.logits) > 1 else block.logits[0]
        votes = torch.stack(
            [
                classifier.votes(logits, voter)
                for classifier, voter in zip(self.classifiers, self._voters, strict=True)
            ]
        )
        columns = votes + 1  # column 0 counts the votes that are not finite
        start, done = 0, []
        for flight, rows in block.owners:
            part = columns[:, start : start + rows]
            flight.tally.scatter_add_(1, part, torch.ones_like(part))
            flight.counted += rows
            start += rows
            if flight.counted == flight.work.chunk.rows:
                done.append(flight)
        return done

    def _counted(self, flight: _InFlight) -> Counted:
        counts = [
            {index + INVALID: int(votes) for index, votes in enumerate(row) if votes}
            for row in flight.tally.tolist()
        ]
        return Counted(flight.work.image, flight.work.chunk, counts)
