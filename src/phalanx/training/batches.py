"""Order, augmentation and noise of every step, each from a key of its own.

The keys name the seed, the *stream* (which members are trained: independent members get
independent orders and noises), the epoch and the step. Nothing is carried from step to step,
so a training that resumes at any step continues as if it had never stopped.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from phalanx.noise.distributions import Noise
from phalanx.noise.distributions.gaussian import Gaussian
from phalanx.noise.stream import NormalStream
from phalanx.runtime.keys import noise_key

CROP_PADDING = 4
NORMALS = Gaussian(1.0)


@dataclass(frozen=True)
class Keys:
    """The keys of one stream.

    Attributes:
        seed: the recipe's seed.
        stream: ``"0"`` for member 0 alone, ``"0,1,2"`` for members that are coupled.
    """

    seed: int
    stream: str

    def __call__(self, purpose: str, *parts: int) -> int:
        """128-bit key of one purpose at one place in time."""
        return noise_key("train", self.seed, self.stream, purpose, *parts)

    def generator(self, purpose: str, *parts: int) -> np.random.Generator:
        """numpy's Philox generator under that key."""
        return np.random.Generator(np.random.Philox(key=self(purpose, *parts)))


def epoch_order(keys: Keys, images: int, epoch: int) -> np.ndarray:
    """The images of an epoch in order: int64 ``(images,)``, each exactly once.

    >>> sorted(epoch_order(Keys(0, "0"), 5, epoch=1).tolist())
    [0, 1, 2, 3, 4]
    """
    return keys.generator("order", epoch).permutation(images)


@dataclass(frozen=True)
class StepNoise:
    """`phalanx.losses.Noise` for some rows of one step.

    Every process draws the noise of the whole step and keeps its rows, so that the noise of
    an image does not depend on how many processes share the step.

    Attributes:
        keys, epoch, step: name the step.
        rows: of this process.
        batch: rows of the whole step.
        like: this process's images; the noise has their shape and device.
        law: the distribution at level 1.
        kept: where the parts of a step share what was drawn for all of it; None: nothing is kept.
    """

    keys: Keys
    epoch: int
    step: int
    rows: slice
    batch: int
    like: Tensor
    law: Noise = NORMALS
    kept: dict[int, Tensor] | None = None

    def __call__(self, draw: int) -> Tensor:
        """Noise of mean square 1; equal for equal ``draw``, independent for different ones."""
        if self.kept is None:
            return self._whole(draw)[self.rows]
        if draw not in self.kept:
            self.kept[draw] = self._whole(draw)
        return self.kept[draw][self.rows]

    def _whole(self, draw: int) -> Tensor:
        """Of every row of the step."""
        key = self.keys("noise", self.epoch, self.step, draw)
        stream = NormalStream(key, self.like[0].numel(), device=self.like.device)
        image = self.like[0].shape
        drawn = torch.empty(self.batch, *image, device=self.like.device)
        self.law.fill(drawn, torch.zeros(image, device=self.like.device), stream)
        return drawn


@dataclass(frozen=True)
class FlipCrop:
    """The standard CIFAR augmentation (He et al. 2016, section 4.2), one draw an image.

    Attributes:
        mirrored: bool ``(B,)``, true with probability 1/2.
        offset: int64 ``(2, B)``, line and column of the crop in 0..8.
    """

    mirrored: Tensor
    offset: Tensor

    @classmethod
    def draw(cls, generator: np.random.Generator, count: int, rows: slice) -> FlipCrop:
        """Draws for a step of ``count`` images, of which ``rows`` are kept."""
        mirrored = generator.random(count) < 0.5
        offset = generator.integers(0, 2 * CROP_PADDING + 1, (2, count))
        return cls(torch.from_numpy(mirrored[rows]), torch.from_numpy(offset[:, rows]))

    def __call__(self, x: Tensor) -> Tensor:
        """Mirror and crop from the image padded by 4 zeros: ``(B, C, H, W)`` in and out."""
        count, _, height, width = x.shape
        columns = torch.arange(width).expand(count, width)
        columns = torch.where(self.mirrored[:, None], width - 1 - columns, columns)
        columns = columns + self.offset[1][:, None]
        lines = torch.arange(height) + self.offset[0][:, None]
        padded = pad(x, (CROP_PADDING,) * 4).permute(0, 2, 3, 1)
        image = torch.arange(count)[:, None, None]
        return padded[image, lines[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
