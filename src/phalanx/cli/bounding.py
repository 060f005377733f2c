"""``phalanx certify --method``: deterministic bounds in place of randomized smoothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phalanx.cli.console import log
from phalanx.errors import ParameterError

if TYPE_CHECKING:
    from phalanx.evaluation.bounding import BoundRequest
    from phalanx.models.model import Model

SMOOTHING = "smoothing"
AUTO = "auto"


def by_bounds(method: str | None, models: Sequence[Model], sigma: str | None) -> bool:
    """Whether bounds certify: asked for, or ``auto`` without a noise level; says which and why."""
    if method in (None, SMOOTHING):
        return False
    if method != AUTO:
        if sigma is not None:
            raise ParameterError(
                f"--sigma with --method {method}", why="bounds have no noise",
                repair="leave one of them out",
            )  # fmt: skip
        return True
    if sigma is not None:
        log("auto: smoothing, because a noise level is given")
        return False
    if all(model.sigma for model in models):
        log("auto: smoothing, because the models were trained under noise")
        return False
    log("auto: bounds, because no noise level is known; cheapest first until one decides")
    return True


OTHERWISE = {
    "each": ("a run of bounds is of one classifier", "a command for every model"),
    "plan": ("what bounds cost is not known before", "--limit 5"),
    "budget": ("what bounds cost is not known before", "--limit and --every"),
}
"""Why options of smoothing other than its own parameters are refused, and what to do instead."""


def request_by_bounds(
    models: list[Model],
    load_data: tuple[str, Path | None, int, int | None],
    *,
    reducer: list[str] | None,
    radius: list[str] | None,
    eps: float | None,
    plan: bool,
    refused: dict[str, Any],
    **asked: Any,
) -> BoundRequest:
    """The request, or what of the command does not go with bounds."""
    from phalanx.data.locate import load
    from phalanx.evaluation.bounding import one_reducer, request_bounds

    given = [name for name, value in refused.items() if value not in (None, False)]
    if given or plan:
        name = (given or ["plan"])[0]
        why, repair = OTHERWISE.get(name, ("it speaks of randomized smoothing", ""))
        raise ParameterError(f"--{name} with bounds", why=why, repair=repair)
    if radius not in (None, ["search"]):
        raise ParameterError(
            f"--radius {' '.join(radius or ())} with bounds",
            repair="--eps 8/255, or --radius search",
        )
    name, folder, every, limit = load_data
    dataset = load(name, folder)
    request = request_bounds(
        models,
        dataset,
        reducer=one_reducer(reducer),
        eps=eps,
        search=radius is not None,
        indices=dataset.select(every=every, limit=limit),
        **asked,
    )
    if request.prover.why_real:
        log(f"real arithmetic: {request.prover.why_real}")
    return request
