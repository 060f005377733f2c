"""BPDA: the gradient of a function near it for a step that has none (Athalye et al., ICML 2018)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from phalanx.errors import ModelError


class DeclaredBackward(nn.Module):
    """A step of a network that runs as it is and is differentiated as something else.

    Quantisation, compression and other steps have no useful gradient; the attacker takes that of a
    function near it instead, by default that of the identity.

    Args:
        step: what runs ``(B, ...)``.
        surrogate: what is differentiated, with outputs of the same shape; None: the identity.

    Raises:
        ModelError: (when run) the two give different shapes.

    >>> layer = DeclaredBackward(torch.round)
    >>> x = torch.tensor([0.7], requires_grad=True)
    >>> y = layer(x)
    >>> y.sum().backward()
    >>> y.item(), x.grad.item()
    (1.0, 1.0)
    """

    def __init__(
        self,
        step: Callable[[Tensor], Tensor],
        surrogate: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.step, self.surrogate = step, surrogate

    def forward(self, x: Tensor) -> Tensor:
        """The step's values with the surrogate's gradient."""
        near = x if self.surrogate is None else self.surrogate(x)
        real = self.step(x.detach())
        if real.shape != near.shape:
            raise ModelError(
                f"a step gives {tuple(real.shape)} and its declared backward {tuple(near.shape)}",
                why="it stands in for the step, so both have one shape",
            )
        # near + (real - near) would do, but that sum rounds the step's own values.
        straight: Tensor = _Straight.apply(near, real)
        return straight


class _Straight(torch.autograd.Function):
    """Values of the second argument, gradient to the first."""

    @staticmethod
    def forward(ctx: object, near: Tensor, real: Tensor) -> Tensor:
        return real.clone()

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None
