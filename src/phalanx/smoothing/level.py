"""The noise to certify or predict under: what was asked for against what the cards say."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

from phalanx.errors import ParameterError
from phalanx.models.model import Model

GAUSSIAN = "gaussian"
WITHOUT_NOISE = "--sigma 0.25 --allow-sigma-mismatch, or models trained under noise"


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
        if trained == [0.0]:
            raise ParameterError(
                "no sigma was given",
                why="the models were trained without noise, so a certificate will be small",
                repair=WITHOUT_NOISE,
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
            repair=WITHOUT_NOISE
            if trained == [0.0]
            else f"--sigma {trained[-1]:g}, or --allow-sigma-mismatch",
        )
    return level


def law_of(
    models: Sequence[Model], noise: str | None, order: int | None, *, allow_mismatch: bool
) -> tuple[str, int | None]:
    """The distribution to certify under and its order: asked for, else that of the training.

    Args:
        models: the members; those whose card names no noise say nothing.
        noise, order: asked for, or None for those of the cards; Gaussian where none says one.
        allow_mismatch: take what is asked for even where a card says otherwise.

    Raises:
        ParameterError: the cards differ and none was asked for, or one of them is another than was
            asked for and that was not allowed.

    >>> law_of([], None, None, allow_mismatch=False)
    ('gaussian', None)
    """
    cards = {(m.card.noise, m.card.order) for m in models if m.card.noise is not None}
    if noise is None:
        names = sorted({name for name, _ in cards if name is not None})
        if len(names) > 1:
            raise ParameterError(
                "no noise was given",
                why=f"the models were trained under {', '.join(names)}",
                repair=f"--noise {names[0]} --allow-sigma-mismatch, or models of one noise",
            )
        noise = names[0] if names else GAUSSIAN
    orders = {known for name, known in cards if name == noise}
    if order is None and len(orders) == 1:
        order = orders.pop()
    differing = sorted({_said(*card) for card in cards if card != (noise, order)})
    if differing and not allow_mismatch:
        raise ParameterError(
            f"noise is {_said(noise, order)} and the models were trained under"
            f" {', '.join(differing)}",
            why="a mismatch is usually a mistake, and always costs radius",
            repair="no --noise, or --allow-sigma-mismatch",
        )
    return noise, order


def _said(noise: str | None, order: int | None) -> str:
    return str(noise) if order is None else f"{noise} of order {order}"
