"""The noise level to certify or predict at: what was asked for against what the cards say."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

from phalanx.errors import ParameterError
from phalanx.models.model import Model


def sigma_of(models: Sequence[Model], sigma: Any, *, allow_mismatch: bool) -> float:
    """The noise level to certify at: asked for, else the one the models were trained for.

    Args:
        models: the members; those without a card say nothing.
        sigma: a level in input units, or None for that of the cards.
        allow_mismatch: take ``sigma`` even where a card names another level.

    Raises:
        ParameterError: neither is known, they differ and that was not allowed, or ``sigma`` is
            no number.

    >>> sigma_of([], 0.5, allow_mismatch=False)
    0.5
    """
    trained = sorted({model.sigma for model in models if model.sigma is not None})
    if sigma is None:
        if len(trained) != 1:
            raise ParameterError(
                "no sigma was given",
                why=f"the models were trained for {trained}" if trained else "no card says one",
                repair="--sigma 0.5",
            )
        return trained[0]
    if isinstance(sigma, bool) or not isinstance(sigma, Real):
        raise ParameterError(
            f"sigma is {sigma!r}",
            why="it is a noise level in input units, one number",
            repair="--sigma 0.5",
        )
    level = float(sigma)
    if any(known != level for known in trained) and not allow_mismatch:
        raise ParameterError(
            f"sigma is {level:g} and the models were trained for "
            + ", ".join(f"{known:g}" for known in trained),
            why="a mismatch is usually a mistake, and always costs radius",
            repair=f"--sigma {trained[0]:g}, or --allow-sigma-mismatch",
        )
    return level
