"""The engine: a generator of vote counts, chunk by chunk.

It is built from independent parts - noise, a source of votes, and whoever says which chunk comes
next - and knows nothing of bounds, radii or stopping rules. Rows of many chunks
and images share each forward pass; every pass has one batch shape, the last one padded, so
that neither resume nor sharding nor the company an image keeps can change a count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phalanx.errors import ModelError
from phalanx.noise.distributions import Noise
from phalanx.noise.stream import NormalStream
from phalanx.runs.schema import INVALID, Counts
from phalanx.runtime.keys import noise_key
from phalanx.smoothing.bank import MemberBank
from phalanx.smoothing.classifiers import BaseClassifier
from phalanx.smoothing.sources import source_of
from phalanx.smoothing.stopping import Chunk
from phalanx.smoothing.votes import Ready


class Work(NamedTuple):
    """One chunk to count: which noise, around which input ``x`` ``(*shape)``."""

    image: int
    chunk: Chunk
    x: Tensor


class Counted(NamedTuple):
    """The votes of one chunk: one `Counts` per base classifier, in their order.

    ``ballots``, for an engine that keeps them, says which row cast which vote: int32
    ``(classifiers, rows)``, `INVALID` where logits were not finite.
    """

    image: int
    chunk: Chunk
    counts: Sequence[Counts]
    ballots: NDArray[np.int32] | None = None


NextWork = Callable[[], Work | None]
"""Called whenever the batch has room; None while nothing is left to start."""

OnPass = Callable[[int], None]
"""Called after each forward pass with the rows it answered."""


def _ignore(rows: int) -> None:
    """Nobody watches."""


@dataclass
class _InFlight:
    """A chunk that is being counted.

    On the device: ``tally`` ``(classifiers, classes + 1)`` and ``ballots`` ``(classifiers,
    rows)``, which has no rows unless they are kept.
    """

    work: Work
    noise: Noise
    stream: NormalStream
    tally: Tensor
    ballots: Tensor
    member_key: int
    drawn: int = 0
    counted: int = 0

    @property
    def missing(self) -> int:
        return self.work.chunk.rows - self.drawn

    @cached_property
    def _draws(self) -> np.random.Philox:
        return np.random.Philox(key=self.member_key)

    def members(self, rows: int, among: int) -> Tensor:
        """A member for each of the next rows, int64 ``(rows,)``, even to 2**-64."""
        drawn = self._draws.random_raw(rows) % np.uint64(among)
        return torch.from_numpy(drawn.astype(np.int64)).to(self.tally.device)


class Engine:
    """Counts votes of base classifiers under keyed noise.

    Args:
        bank: the members, ready to run.
        classifiers: who votes; all share one forward pass.
        noise: what is added to the input.
        other_noise: what is added instead in the chunks of a phase, by its name.
        seed: the run seed, part of every noise key.
        batch: rows of every forward pass, fixed for the run.
        generator: name of the noise generator, fixed for the run.
        ballots: keep which row cast which vote, for statistics of the noise behind it.

    Attributes:
        rows, agreed: rows answered so far, and those for which members were spared.
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
        ballots: bool = False,
        other_noise: Mapping[str, Noise] | None = None,
    ) -> None:
        self.bank, self.classifiers, self.noise = bank, list(classifiers), noise
        self.other_noise = dict(other_noise or {})
        self.seed, self.batch, self.generator = seed, batch, generator
        self.ballots = ballots
        self.rows = self.agreed = 0

    @torch.inference_mode()
    def run(self, next_work: NextWork, on_pass: OnPass = _ignore) -> Iterator[Counted]:
        """Yield each chunk's votes as soon as all its rows have voted.

        Args:
            next_work: asked for another chunk whenever the batch has room.
            on_pass: told of every forward pass and how many rows it answered.
        """
        buffer = torch.empty(0)  # made when the first input is seen
        current: _InFlight | None = None
        source = source_of(self.bank, self.classifiers)
        while True:
            filled, owners, rows, places = 0, [], [], []
            while filled < self.batch:
                if current is None or current.missing == 0:
                    current = self._start(next_work())
                    if current is None:
                        break
                    buffer = self._buffer(buffer, current.work.x)
                taken = min(self.batch - filled, current.missing)
                noisy = buffer[filled : filled + taken]
                current.noise.fill(noisy, current.work.x, current.stream)
                owners.append(current)
                rows.append(taken)
                places.append(torch.arange(current.drawn, current.drawn + taken))
                current.drawn += taken
                filled += taken
            if filled:
                buffer[filled:].zero_()
                place = torch.cat(places).to(self.bank.device)
                source.push(buffer, owners, self._owner(rows), place)
                on_pass(filled)
            for ready in source.ready(flush=filled < self.batch):
                yield from map(self._counted, self._count(ready))
            if not filled:
                self.rows, self.agreed = self.rows + source.rows, self.agreed + source.agreed
                return

    def _owner(self, rows: Sequence[int]) -> Tensor:
        """Each row's place in the list of owners: int64, on the device."""
        counts = torch.tensor(rows)
        return torch.arange(len(rows)).repeat_interleave(counts).to(self.bank.device)

    def stream(self, image: int, chunk: Chunk, numel: int) -> NormalStream:
        """The noise of a chunk from its first row, for inputs of ``numel`` values."""
        key = noise_key(self.seed, image, chunk.phase, chunk.index)
        return NormalStream(key, numel, self.bank.device, self.generator)

    def _start(self, work: Work | None) -> _InFlight | None:
        if work is None:
            return None
        image, (phase, index, _) = work.image, work.chunk
        member_key = noise_key(self.seed, image, f"member of {phase}", index)
        device = self.bank.device
        stream = self.stream(image, work.chunk, work.x.numel())
        shape = (len(self.classifiers), self.bank.classes + 1)
        tally = torch.zeros(shape, dtype=torch.int64, device=device)
        kept = (len(self.classifiers), work.chunk.rows if self.ballots else 0)
        ballots = torch.full(kept, INVALID, dtype=torch.int32, device=device)
        noise = self.other_noise.get(phase, self.noise)
        work = work._replace(x=work.x.to(device))
        return _InFlight(work, noise, stream, tally, ballots, member_key)

    def _buffer(self, buffer: Tensor, x: Tensor) -> Tensor:
        if not buffer.numel():
            return self.bank.buffer(self.batch, x.shape)
        if buffer.shape[1:] != x.shape:
            raise ModelError(
                f"inputs of shape {tuple(x.shape)} and {tuple(buffer.shape[1:])} in one run",
                why="every forward pass of a run has one recorded shape",
            )
        return buffer

    def _count(self, ready: Ready) -> list[_InFlight]:
        """Add votes to the chunks they belong to; returns those that are complete."""
        owners, classifiers, width = len(ready.owners), len(ready.votes), self.bank.classes + 1
        # One bin for each (classifier, chunk, class); class 0 of them: votes that are not finite.
        first = torch.arange(classifiers, device=ready.votes.device)[:, None] * owners
        bins = (first + ready.owner) * width + ready.votes + 1
        table = torch.bincount(bins.flatten(), minlength=classifiers * owners * width)
        table = table.view(classifiers, owners, width)
        done = []
        for place, rows in enumerate(table[0].sum(-1).tolist()):
            flight = ready.owners[place]
            flight.tally += table[:, place]
            flight.counted += rows
            if rows and flight.counted == flight.work.chunk.rows:
                done.append(flight)
        if self.ballots:
            for place, flight in enumerate(ready.owners):
                cast = ready.owner == place
                flight.ballots[:, ready.row[cast]] = ready.votes[:, cast].to(torch.int32)
        return done

    def _counted(self, flight: _InFlight) -> Counted:
        counts = [
            {index + INVALID: int(votes) for index, votes in enumerate(row) if votes}
            for row in flight.tally.tolist()
        ]
        ballots = flight.ballots.cpu().numpy() if self.ballots else None
        return Counted(flight.work.image, flight.work.chunk, counts, ballots)
