"""GAL: gradient alignment loss (Kariyappa & Qureshi 2019, arXiv 1901.09981)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch.nn.functional import cross_entropy

from phalanx.losses import Batch, losses
from phalanx.losses._coupled import CoupledLoss, Seen, cosines, input_gradients
from phalanx.losses._member import Score, Weight


@losses.register("gal")
class Gal(CoupledLoss):
    """Members' loss gradients shall not point the same way.

    ``coherence * mean_x log sum_{i<j} exp cos(grad CE_i(x), grad CE_j(x))`` is added to the sum
    of the base losses, at the base's own inputs (published: clean images, which is the base
    gaussian at sigma 0). The authors replace ReLU by leaky ReLU, whose gradients are not sparse.

    Members share images and noises. Draws: those of the base.

    Attributes:
        base: the loss of one member below, ``name`` and options.
        coherence: weight; 0.5 in DVERGE's code, against the mean of the members' losses
            instead of their sum (0.5 times the number of members here).
    """

    replayable: ClassVar[bool] = True
    coherence: Weight = 0.5

    def regulariser(self, seen: Sequence[Seen], batch: Batch) -> Score:
        """The term; the metric shows it unweighted."""
        each = [cross_entropy(one.logits, one.y, reduction="none") for one in seen]
        coherence = cosines(input_gradients(each, seen)).logsumexp(0).mean()
        return Score(self.coherence * coherence, {"coherence": coherence})
