"""`Smoothed`: a smoothed classifier one can ask for labels."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from hashlib import blake2b
from itertools import repeat

import torch
from scipy.stats import binomtest
from torch import Tensor

from phalanx.ensembles.ensemble import Ensemble
from phalanx.errors import DataError, NonFiniteError
from phalanx.models.model import Model
from phalanx.models.validate import validate
from phalanx.noise.distributions.gaussian import Gaussian
from phalanx.noise.stream import default_generator
from phalanx.runs.schema import INVALID, Counts
from phalanx.runtime.device import resolve_device
from phalanx.smoothing.bank import Layout, MemberBank
from phalanx.smoothing.classifiers import BaseClassifier, classifiers_of
from phalanx.smoothing.confidence.clopper_pearson import check_alpha
from phalanx.smoothing.engine import Engine, Work
from phalanx.smoothing.stopping import Chunk
from phalanx.verdicts import ABSTAIN, Abstention

PREDICTION = "prediction"


class Smoothed:
    """The smoothed classifier of a model or an ensemble (before smoothing).

    Args:
        model: base classifier; not in training mode.
        sigma: noise level in input units.
        seed: noise is keyed by (seed, content of the input, phase, chunk).
        batch: rows of a forward pass.
        device: where the members run.
    """

    def __init__(
        self,
        model: Model | Ensemble,
        sigma: float,
        *,
        seed: int = 0,
        batch: int = 256,
        device: str = "auto",
        precision: str = "fp32",
    ) -> None:
        members, classifier = base_of(model)
        for member in members:
            validate(member)
        self.device, self.sigma = resolve_device(device), sigma
        self._engine = Engine(
            MemberBank(members, Layout(precision), self.device),
            [classifier],
            Gaussian(sigma),
            seed=seed,
            batch=batch,
            generator=default_generator(self.device),
        )

    def counts(self, x: Tensor, n: int) -> list[Counts]:
        """Votes of n noisy copies of each input of ``x`` ``(B, *shape)``."""
        if x.ndim < 2 or not len(x):
            raise DataError(
                f"inputs of shape {tuple(x.shape)}", why="a batch (B, *shape) of at least one"
            )
        if not bool(torch.isfinite(x).all()):
            raise DataError("the inputs hold NaN or infinite values")
        chunk = Chunk(PREDICTION, 0, n)
        rows = list(x.float().cpu())
        names = [_content(row) for row in rows]
        queue = deque(Work(*item) for item in zip(names, repeat(chunk), rows, strict=False))
        found: dict[int, Counts] = {}
        for counted in self._engine.run(lambda: queue.popleft() if queue else None):
            found[counted.image] = counted.counts[0]
        return [found[name] for name in names]

    def predict(self, x: Tensor, *, n: int = 1000, alpha: float = 0.001) -> list[int | Abstention]:
        """A label for each input, or `ABSTAIN`; wrong with probability at most alpha each.

        PREDICT of Cohen et al. (2019): a two-sided binomial test between the two largest
        counts.

        Raises:
            NonFiniteError: a vote had NaN or infinite logits.
        """
        check_alpha(alpha)
        return [_label(counts, alpha) for counts in self.counts(x, n)]


def _content(x: Tensor) -> int:
    """A name for an input, so that its label does not depend on its place in a batch."""
    return int.from_bytes(blake2b(x.numpy().tobytes(), digest_size=16).digest(), "little")


def base_of(model: Model | Ensemble) -> tuple[Sequence[Model], BaseClassifier]:
    """The members of a model or an ensemble, and the base classifier they make."""
    if isinstance(model, Model):
        return [model], classifiers_of(1)[0]
    members = list(model.members)
    found = classifiers_of(
        len(members), reducer_names=[model.reducer_name], options=model.reducer_options
    )
    return members, found[0]  # type: ignore[return-value]


def _label(counts: Counts, alpha: float) -> int | Abstention:
    if INVALID in counts:
        raise NonFiniteError(
            f"{counts[INVALID]} of {sum(counts.values())} noisy copies had NaN or infinite logits"
        )
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    first, second = ranked[0][1], ranked[1][1] if len(ranked) > 1 else 0
    decided = binomtest(first, first + second, 0.5).pvalue <= alpha
    return ranked[0][0] if decided else ABSTAIN
