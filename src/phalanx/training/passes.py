"""Loss and gradients of one step; on a GPU recorded once an epoch and then replayed.

A deep network on small images is thousands of kernels of a few microseconds each: launching
them one by one takes longer than running them. A CUDA graph launches them all at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from phalanx.losses import Batch, Loss, LossOutput
from phalanx.training.batchnorm import differentiate_twice

WARM_UP = 3
"""Steps before the first recording: libraries choose kernels and take workspace in them."""

Replay = Callable[[], None]
Recorder = Callable[[Callable[[], LossOutput]], tuple[LossOutput, Replay]]
"""Records a function: the tensors of its output, and what writes new values into them."""


@dataclass(frozen=True)
class Eager:
    """The passes of a step, kernel by kernel.

    Attributes:
        loss, members: what is computed. A loss that couples members looks at input gradients: on
            a CPU their batch normalisation becomes one of `phalanx.training.batchnorm` (on a
            GPU that was not measured yet).
        device, precision: where, and whether under bfloat16 autocast.
    """

    loss: Loss
    members: Sequence[nn.Module]
    device: torch.device
    precision: str

    def __post_init__(self) -> None:
        if self.loss.coupled and self.device.type == "cpu":
            for member in self.members:
                differentiate_twice(member)

    def __call__(self, batch: Batch, share: float = 1.0, *, add: bool = False) -> LossOutput:
        """Leave ``share`` times the gradients of the batch's loss in the parameters.

        Whatever gradients were there are gone, unless they shall be added to. The output comes
        without a graph.
        """
        if not add:
            for parameter in self.parameters():
                parameter.grad = None
        bf16 = self.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            output = self.loss(self.members, batch)
        (output.loss * share).backward()
        return replace(output, loss=output.loss.detach())

    def parameters(self) -> list[nn.Parameter]:
        """Of all members."""
        return [parameter for member in self.members for parameter in member.parameters()]


class Recording:
    """The passes of an epoch's full batches, on buffers.

    Args:
        eager: the passes.
        batch: the first batch; later ones have its shape.
        draws: the noises the loss asks for.
        record: see `Recorder`.
    """

    def __init__(self, eager: Eager, batch: Batch, draws: set[int], record: Recorder) -> None:
        self.epoch = int(batch.progress)
        self.x, self.y = batch.x.clone(), batch.y.clone()
        self.noises = {draw: batch.noise(draw).clone() for draw in sorted(draws)}
        given = replace(batch, x=self.x, y=self.y, noise=self.noises.__getitem__)
        self.output, self.replay = record(lambda: eager(given))
        self.parameters = eager.parameters()
        self.gradients = [parameter.grad for parameter in self.parameters]

    def __call__(self, batch: Batch) -> LossOutput:
        """As `Eager`; the output is overwritten by the next call."""
        self.x.copy_(batch.x)
        self.y.copy_(batch.y)
        for draw, noise in self.noises.items():
            noise.copy_(batch.noise(draw))
        self.replay()
        for parameter, gradient in zip(self.parameters, self.gradients, strict=True):
            parameter.grad = gradient
        return self.output


class Recorded:
    """`Eager` for the first steps and for odd batches, a `Recording` for the others.

    The first steps tell which noises the loss asks for. Every epoch is recorded anew, because
    a loss may warm up by whole epochs. Where the device refuses to record (a network that
    reads a value back), every step runs kernel by kernel.

    Args:
        eager: the passes; the loss is `Loss.recordable`.
        rows: of a full batch.
        record: see `Recorder`.
    """

    def __init__(self, eager: Eager, rows: int, record: Recorder | None = None) -> None:
        self.eager, self.rows = eager, rows
        self.record = record or cuda_graph
        self.steps = 0
        self.draws: set[int] = set()
        self.recording: Recording | None = None
        self.refused = False

    def __call__(self, batch: Batch, share: float = 1.0, *, add: bool = False) -> LossOutput:
        """As `Eager`."""
        if add or share != 1.0 or len(batch.x) != self.rows or self.refused:
            return self.eager(batch, share, add=add)
        if self.steps < WARM_UP:
            return self._warm_up(batch)
        if self.recording is None or self.recording.epoch != int(batch.progress):
            self.recording = None  # first, or the memory of two is held
            try:
                self.recording = Recording(self.eager, batch, self.draws, self.record)
            except RuntimeError:  # nothing has run: the step is still to be taken
                self.refused = True
                return self.eager(batch)
        return self.recording(batch)

    def _warm_up(self, batch: Batch) -> LossOutput:
        self.steps += 1

        def noise(draw: int) -> Tensor:
            self.draws.add(draw)
            return batch.noise(draw)

        return self.eager(replace(batch, noise=noise))


def cuda_graph(function: Callable[[], LossOutput]) -> tuple[LossOutput, Replay]:
    """`Recorder` that captures a CUDA graph; nothing runs before the first replay."""
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            output = function()
    except RuntimeError:
        _settle()
        raise
    return output, graph.replay


def _settle() -> None:
    """After a capture that failed torch's generator believes it is still in one, and refuses to
    draw; one that ends well puts it right.
    """
    something = torch.zeros(1, device="cuda")
    with torch.cuda.graph(torch.cuda.CUDAGraph()):
        something += 1


def passes(eager: Eager, rows: int, *, alone: bool) -> Eager | Recorded:
    """The faster of both forms where it is at hand.

    Args:
        eager: the passes.
        rows: of a full batch.
        alone: whether one process takes the whole step.
    """
    if alone and eager.device.type == "cuda" and eager.loss.recordable:
        return Recorded(eager, rows)
    return eager
