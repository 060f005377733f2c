"""The published attack on float32 smoothing: two certificates that contradict each other.

A float32 near zero says where it came from. ``0 + noise`` may be as fine as float32 is there,
``x + noise`` is a multiple of the last place of the noise that cancelled x. A classifier that looks
for fine numbers is a function of the noisy image alone, as any classifier is, and it is
certified for one class around an image and for another around its neighbour.

Source: Jin, Ohrimenko & Rubinstein (arXiv 2205.10159); Voracek & Hein (arXiv 2207.07209).
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

import phalanx
from phalanx.models.model import InputSpec, Model
from phalanx.noise.distributions.gaussian import Gaussian
from phalanx.noise.lattice import Lattice
from phalanx.noise.stream import NormalStream
from phalanx.runs.schema import CertificateRecord
from phalanx.verdicts import Verdict

SHAPE, SIGMA, N = (3, 32, 32), 0.5, 1000
PIXEL = 2 / 255
NEAR_ZERO, FINEST = 2.0**-9, 2.0**31

pytestmark = pytest.mark.usefixtures("one_thread")


class Fineness(nn.Module):
    """Class 0 where some value near zero is finer than noise that cancelled a pixel can be."""

    def forward(self, x: Tensor) -> Tensor:
        scaled = (x * FINEST).flatten(1)
        fine = (scaled != scaled.floor()) & (x.abs().flatten(1) < NEAR_ZERO)
        found = fine.sum(1).float()
        return torch.stack([found, torch.full_like(found, 0.5)], 1)


class Shifted(nn.Module):
    """Class 1 beyond the plane that halves the two images: the likelihood ratio, on any noise."""

    def forward(self, x: Tensor) -> Tensor:
        over = x.flatten(1).mean(1) - PIXEL / 2
        return torch.stack([-over, over], 1)


def pair() -> Tensor:
    """Two 8-bit images whose distance is 0.435."""
    return torch.stack([torch.zeros(SHAPE), torch.full(SHAPE, PIXEL)])


def certificates(network: nn.Module, **options: object) -> Sequence[CertificateRecord]:
    model = Model(network.eval(), InputSpec(shape=SHAPE), 2)
    return phalanx.certify(model, pair(), sigma=SIGMA, n=N, batch=128, device="cpu", **options)


def contradict(rows: Sequence[CertificateRecord], distance: float) -> bool:
    """Whether both certificates cannot be true: another class inside a certified ball."""
    first, second = rows
    certified = first.verdict is second.verdict is Verdict.VERIFIED
    radius = max(first.radius or 0.0, second.radius or 0.0)
    return certified and first.predicted != second.predicted and radius > distance


def distance() -> float:
    first, second = pair().double()
    return float((first - second).norm())


def test_plain_smoothing_contradicts_itself():
    """The test of the test: the attack works where noise is added in float32."""
    rows = certificates(Fineness(), arithmetic="real")
    assert distance() == pytest.approx(0.4347, abs=1e-4)
    assert contradict(rows, distance())
    assert min(row.radius for row in rows) > 2 * distance()


@pytest.mark.parametrize("steps", [None, 255 * 16, 1 << 12])
@pytest.mark.parametrize("network", [Fineness(), Shifted()])
def test_lattice_smoothing_does_not(network, steps):
    rows = certificates(network, **({} if steps is None else {"steps": steps}))
    assert not contradict(rows, distance())
    if isinstance(network, Shifted):
        # Both are certified, for two classes, and the radii leave room for both.
        assert [row.predicted for row in rows] == [0, 1]
        assert sum(row.radius for row in rows) <= distance()


def test_a_noisy_lattice_image_is_a_function_of_whole_numbers():
    """The network sees ``float32(k) / 255`` and nothing else, whatever image k came from."""
    lattice = Lattice(0.0, 1.0, 255)
    noise, noisy = Gaussian(SIGMA).on(lattice), torch.empty(64, *SHAPE)
    for image in pair():
        noise.fill(noisy, image, NormalStream(1, image.numel()))
        whole = (noisy.double() * 255).round()
        assert torch.equal(whole.float() / 255, noisy)
        assert float(whole.min()) < -255
        assert float(whole.max()) > 255
