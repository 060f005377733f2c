"""Steps replayed from a recording are the steps themselves, for every loss that allows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from losses_helpers import batch, convolutional, members_for
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from phalanx.losses import Batch, Loss, LossOutput, build_loss, losses
from phalanx.losses.gaussian import Gaussian
from phalanx.training.passes import WARM_UP, Eager, Recorded, passes

ROWS = 12
RECORDABLE = [name for name in losses.names() if build_loss(name, {"sigma": 0.5}).recordable]
CUDA = pytest.param(
    "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
)


class Reruns:
    """`Recorder` without a GPU: runs the function again, into the tensors of its first run."""

    def __init__(self, members: list[nn.Module]) -> None:
        self.parameters = [p for member in members for p in member.parameters()]
        self.buffers = [buffer for member in members for buffer in member.buffers()]
        self.recordings = 0

    def __call__(self, function: Callable[[], LossOutput]) -> tuple[LossOutput, Callable[[], None]]:
        before = [buffer.clone() for buffer in self.buffers]
        with torch.random.fork_rng([]):
            output = function()
        for buffer, value in zip(self.buffers, before, strict=True):
            buffer.copy_(value)  # a recording runs nothing
        gradients = [p.grad for p in self.parameters]
        self.recordings += 1

        def replay() -> None:
            new = function()
            output.loss.copy_(new.loss)
            output.logits.copy_(new.logits)
            for old, p in zip(gradients, self.parameters, strict=True):
                old.copy_(p.grad)

        return output, replay


def batches(device: str) -> list[Batch]:
    """Two epochs of five full batches and an odd one."""
    found = []
    for epoch in range(2):
        for step in range(6):
            rows = ROWS if step < 5 else ROWS - 3
            one = batch(rows=rows, seed=10 * epoch + step, progress=epoch + step / 6)
            table = one.noise.table.to(device)
            found.append(
                replace(one, x=one.x.to(device), y=one.y.to(device), noise=table.__getitem__)
            )
    return found


def trained(loss: Loss, device: str, *, recorded: bool) -> tuple[list[nn.Module], list[float], int]:
    """Members after every batch, the loss of each step, and how often it was recorded."""
    members = [member.to(device).train() for member in members_for(loss)]
    eager = Eager(loss, members, torch.device(device), "fp32")
    recorder = Reruns(members) if device == "cpu" else None
    compute = Recorded(eager, ROWS, recorder) if recorded else eager
    optimizer = torch.optim.SGD(eager.parameters(), lr=0.05, momentum=0.9)
    seen = []
    for step, one in enumerate(batches(device)):
        torch.manual_seed(step)
        seen.append(compute(one, 1.0).loss.clone())
        optimizer.step()
    if recorded:
        assert not compute.refused
        assert compute.recording is not None
    return members, [value.item() for value in seen], recorder.recordings if recorder else 0


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("name", RECORDABLE)
def test_replayed_steps_are_those_taken_one_by_one(name, device):
    loss = build_loss(name, {"sigma": 0.5})
    plain, expected, _ = trained(loss, device, recorded=False)
    replayed, found, recordings = trained(loss, device, recorded=True)
    assert found == pytest.approx(expected, rel=1e-3)
    if device == "cpu":
        assert found == expected
        assert recordings == 2  # one an epoch
    for one, other in zip(plain, replayed, strict=True):
        for (key, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
            assert torch.allclose(a.float(), b.float(), rtol=1e-2, atol=1e-4), key


class StaysOnTheDevice(TorchDispatchMode):
    """Refuses what a GPU cannot record: tensors of Python numbers, and values read back."""

    REFUSED = frozenset({"lift_fresh", "_local_scalar_dense", "nonzero", "masked_select"})

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in self.REFUSED:
            raise RuntimeError(f"{name} cannot be recorded")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", RECORDABLE)
def test_nothing_goes_to_the_device_or_comes_back_from_it(name):
    loss = build_loss(name, {"sigma": 0.5})
    members = [member.train() for member in members_for(loss)]
    one = batches("cpu")[0]
    with StaysOnTheDevice():
        loss(members, one).loss.backward()


def test_an_index_of_python_numbers_would_be_noticed():
    with StaysOnTheDevice(), pytest.raises(RuntimeError, match="lift_fresh"):
        torch.zeros(3)[[0, 1]]


def test_a_loss_that_takes_part_in_a_team_or_on_a_cpu_is_not_recorded():
    eager = Eager(Gaussian(sigma=0.5), [convolutional()], torch.device("cpu"), "fp32")
    assert passes(eager, ROWS, alone=True) is eager
    on_gpu = replace(eager, device=torch.device("cuda"))
    assert passes(on_gpu, ROWS, alone=False) is on_gpu


def test_coupled_losses_ask_their_base():
    assert build_loss("drt", {"sigma": 0.5}).recordable
    assert not build_loss("drt", {"sigma": 0.5, "base": {"name": "macer"}}).recordable


class ReadsBack(nn.Module):
    """A network whose way depends on a value, which no recording can know."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = convolutional()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) if x.sum().item() > -1e9 else x.flatten(1)[:, :3]


@pytest.mark.parametrize("device", [CUDA])
def test_a_network_that_reads_a_value_back_is_trained_as_it_is(device):
    member = ReadsBack().to(device).train()
    compute = Recorded(Eager(Gaussian(sigma=0.5), [member], torch.device(device), "fp32"), ROWS)
    for one in batches(device):
        assert torch.isfinite(compute(one).loss)  # dropout draws after the refusal, too
    assert compute.refused


def test_a_device_that_refuses_gets_every_step_as_it_is():
    def refuse(function):
        raise RuntimeError("operation not permitted when stream is capturing")

    eager = Eager(Gaussian(sigma=0.5), [convolutional()], torch.device("cpu"), "fp32")
    compute = Recorded(eager, ROWS, refuse)
    for one in batches("cpu")[: WARM_UP + 2]:
        assert torch.isfinite(compute(one).loss)
        assert all(p.grad is not None for p in eager.parameters())
    assert compute.refused
