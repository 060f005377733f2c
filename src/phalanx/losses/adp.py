"""ADP: adaptive diversity promoting (Pang et al., ICML 2019, arXiv 1901.08846)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from phalanx.losses import Batch, losses
from phalanx.losses._coupled import CoupledLoss, Seen
from phalanx.losses._member import Score, Weight
from phalanx.losses._smoothed import log_mean_softmax

OFFSET = 1e-6


@losses.register("adp")
class Adp(CoupledLoss):
    """Members shall differ in what they hold for wrong, and together leave room for it.

    ``-entropy * H(mean_i p_i) - determinant * log det(G + 1e-6 I)``, mean over rows, is added to
    the sum of the base losses; ``G`` holds the inner products of the members' predictions
    without the right class, each scaled to length 1. More members than wrong classes have
    a determinant of 0 and are only pushed by the offset.

    Members share images and noises. Draws: those of the base.

    Attributes:
        base: the loss of one member below, ``name`` and options.
        entropy: weight; published: 2.
        determinant: weight; published: 0.5.
    """

    entropy: Weight = 2.0
    determinant: Weight = 0.5

    def regulariser(self, seen: Sequence[Seen], batch: Batch) -> Score:
        """Both terms; the metrics show them unweighted."""
        logits = torch.stack([each.logits for each in seen])
        log_mean = log_mean_softmax(logits)
        entropy = -(log_mean.exp() * log_mean).sum(-1).mean()
        volume = log_determinants(logits, seen[0].y).mean()
        loss = -self.entropy * entropy - self.determinant * volume
        return Score(loss, {"ensemble_entropy": entropy, "log_determinant": volume})


def log_determinants(logits: Tensor, y: Tensor) -> Tensor:
    """``log det(G + 1e-6 I)`` of every row.

    Args:
        logits: ``(M, R, C)``.
        y: classes ``(R,)``.

    Returns:
        ``(R,)``, at most about 0. Softmax over the wrong classes alone has the direction of
        the predictions without the right class, also where those round to 0.
    """
    members, rows, classes = logits.shape
    wrong = torch.arange(classes, device=y.device) != y[:, None]
    others = logits.masked_select(wrong).view(members, rows, classes - 1)
    directions = normalize(others.softmax(-1), dim=-1).transpose(0, 1)
    with torch.autocast(y.device.type, enabled=False):  # products in bfloat16 are off by 1e-2
        gram = directions @ directions.mT + OFFSET * torch.eye(members, device=y.device)
        return torch.linalg.slogdet(gram).logabsdet
