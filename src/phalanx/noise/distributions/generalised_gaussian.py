"""Generalised Gaussian noise: a direction that is even on the sphere, and a length of its own law.

Source: Li et al., "Double sampling randomized smoothing" (ICML 2022, arXiv 2206.07912), section 4
and appendix for the published orders. Its certificates are in `phalanx.smoothing`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import gammainccinv, gammaincinv
from torch import Tensor

from phalanx.errors import ParameterError
from phalanx.noise.distributions import check_sigma, distributions
from phalanx.noise.stream import NormalStream

PUBLISHED_SHAPES = ((150_528, 4), (3_072, 6), (0, 12))
"""``d/2 - k`` from so many dimensions on: as published for ImageNet, CIFAR-10 and MNIST."""
_TINY = 1e-300


def usual_order(dimension: int) -> int:
    """The published order k, and for other dimensions that of the next smaller published one.

    Where ``d/2 - 12`` is not above 0 it is 0, the Gaussian.

    >>> [usual_order(d) for d in (784, 3072, 150528, 64, 25, 24)]
    [380, 1530, 75260, 20, 0, 0]
    """
    shape = next(shape for least, shape in PUBLISHED_SHAPES if dimension >= least)
    return max(0, dimension // 2 - shape)


def check_order(order: object, dimension: int | None = None) -> None:
    """Refuse an order that is none, or none in so many dimensions.

    Raises:
        ParameterError: it is no whole number from 0 on with ``2k < d - 1``; 0 always is one.
    """
    if isinstance(order, bool) or not isinstance(order, int) or order < 0:
        raise ParameterError(
            f"order is {order!r}", why="it is a whole number from 0 on", repair="--set order=380"
        )
    if order and dimension is not None and 2 * order + 1 >= dimension:
        raise ParameterError(
            f"order {order} in {dimension} dimensions",
            why="the density and its slope are integrable where 2k < d - 1",
            repair=f"an order of at most {max(0, (dimension - 2) // 2)}",
        )


def gamma_shape(dimension: int, order: int) -> float:
    """``a = d/2 - k``: t is of the Gamma law of this shape."""
    return dimension / 2 - order


def unit_length(dimension: int, order: int, sigma: float) -> float:
    """``s sqrt 2``: the length whose square is ``t = 1``; then a coordinate's variance is sigma^2.

    >>> round(unit_length(784, 380, 0.5), 4)
    4.0415
    """
    return sigma * math.sqrt(2 * dimension / (dimension - 2 * order))


@distributions.register("generalised-gaussian")
@dataclass(frozen=True)
class GeneralisedGaussian:
    """Density ``|e|^(-2k) exp(-|e|^2 / 2s^2)`` up to a factor, ``s^2 = sigma^2 d / (d - 2k)``.

    ``|e|^2`` is ``2 s^2 t`` with t of the Gamma law of shape ``d/2 - k``, and sigma is the
    standard deviation of a value. The direction is that of a row of normals; t is the quantile of
    64 bits that each row has of its own, so that a row does not depend on its company.

    Attributes:
        sigma: the level, in the units of the model's input.
        order: k; None: `usual_order` of the input's dimension. 0 is the Gaussian.
        mass: the law is cut to the ball that has this probability, in (0, 1]; sigma and s stay
            those of the whole law.

    Raises:
        ParameterError: no noise level, order or probability.
    """

    sigma: float
    order: int | None = None
    mass: float = 1.0

    def __post_init__(self) -> None:
        check_sigma(self.sigma)
        if self.order is not None:
            check_order(self.order)
        if not isinstance(self.mass, float) or not 0 < self.mass <= 1:
            raise ParameterError(
                f"noise that is cut to the mass {self.mass!r}", why="it is a probability above 0"
            )

    def of_order(self, order: int) -> GeneralisedGaussian:
        """The same noise of another order."""
        return replace(self, order=order)

    def order_in(self, dimension: int) -> int:
        """Its order k for inputs of so many values.

        Raises:
            ParameterError: there is none of this order.
        """
        order = usual_order(dimension) if self.order is None else self.order
        check_order(order, dimension)
        return order

    def longest(self, dimension: int) -> float:
        """The largest length, in input units; infinite where nothing is cut off."""
        order = self.order_in(dimension)
        last = gammaincinv(gamma_shape(dimension, order), self.mass)
        return unit_length(dimension, order, self.sigma) * math.sqrt(last)

    def fill(self, out: Tensor, x: Tensor, stream: NormalStream) -> None:
        """Write ``len(out)`` noisy copies of one input ``x`` ``(*shape)`` into ``out``.

        Raises:
            ParameterError: as `order_in`.
        """
        rows, numel = len(out), stream.numel
        order = self.order_in(numel)
        words = stream.further_words(2 * rows).view(torch.int64).cpu().numpy()
        t = quantiles(gamma_shape(numel, order), words, self.mass)
        wanted = torch.from_numpy(unit_length(numel, order, self.sigma) * np.sqrt(t))
        direction = stream.rows(rows)
        scale = wanted.to(direction.device) / lengths(direction)
        noise = direction * scale.to(direction.dtype)[:, None]
        # Two operations, each rounded by itself: a fused one may round rows by their place.
        torch.add(x, noise.view(rows, *x.shape), out=out)


def quantiles(shape: float, words: NDArray[np.int64], mass: float) -> NDArray[np.float64]:
    """Of the Gamma law of a shape, cut to a mass: one of each 64-bit word, float64.

    A word w stands for the probability ``(w + 1/2) / 2^64``. Above the median the quantile is
    found from the other side, so that no digit of a small tail is lost.
    """
    bits = words.view(np.uint64)
    low = mass * ((bits.astype(np.float64) + 0.5) * 2.0**-64)
    high = (1 - mass) + mass * (((~bits).astype(np.float64) + 0.5) * 2.0**-64)
    found = np.empty(low.shape)
    below = low < 0.5
    found[below] = gammaincinv(shape, low[below])
    found[~below] = gammainccinv(shape, high[~below])
    return np.minimum(found, gammaincinv(shape, mass))


def lengths(rows: Tensor) -> Tensor:
    """Euclidean length of each row: float64 ``(rows,)``, above 0.

    Squares are added in one fixed order, whatever the number of rows: the second half to the first.
    """
    squares = rows.to(torch.float64).square_()
    while (width := squares.shape[1]) > 1:
        half = -(-width // 2)
        folded = squares[:, :half].clone()
        folded[:, : width - half] += squares[:, half:]
        squares = folded
    return squares[:, 0].clamp_(min=_TINY).sqrt_()
