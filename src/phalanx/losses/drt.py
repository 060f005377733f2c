"""DRT: diversity regularised training (Yang et al., ICLR 2022, arXiv 2107.10873)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch

from phalanx.losses import Batch, losses
from phalanx.losses._coupled import CoupledLoss, Seen, pairs
from phalanx.losses._margins import Form, averaged, lengths, margins_with_gradients
from phalanx.losses._member import Score, Weight


@losses.register("drt")
class Drt(CoupledLoss):
    """Members' margins shall fall in different directions, and be large.

    ``m_i = f_i(x)_y - max_{c != y} f_i(x)_c`` is member i's margin of confidences, ``g_i`` its
    gradient at the input, both at the base's own noisy (or adversarial and noisy) inputs.
    Added to the sum of the base losses are, in the form of the ``paper``, means over all rows:
    ``gradient_diversity * sum_{i<j} [i and j right] ||g_i + g_j||_2`` and
    ``-confidence_margin * sum_i [i right] m_i``. The authors' ``code`` squares the norm, and
    divides each sum by the number of terms that count instead of by the rows.

    Members share images and noises, as in the authors' code; an adversary of the base attacks
    each member alone, so the members' gradients are then at neighbouring inputs. Draws: those
    of the base.

    Attributes:
        base: the loss of one member below, ``name`` and options.
        form: ``paper`` or ``code``.
        gradient_diversity: rho_1. No published value could be read; we search 0.1 to 5.
        confidence_margin: rho_2. No published value could be read; we search 0.5 to 5.
    """

    replayable: ClassVar[bool] = True
    form: Form = "paper"
    gradient_diversity: Weight = 0.5
    confidence_margin: Weight = 1.0

    def regulariser(self, seen: Sequence[Seen], batch: Batch) -> Score:
        """Both terms; the metrics show them unweighted."""
        margin, gradients = margins_with_gradients(seen)
        right = margin.detach() > 0
        joint = lengths(torch.add(*pairs(gradients)), self.form)
        diversity = averaged(joint, torch.logical_and(*pairs(right)), self.form)
        confidence = averaged(margin, right, self.form)
        loss = self.gradient_diversity * diversity - self.confidence_margin * confidence
        return Score(loss, {"gradient_diversity": diversity, "confidence_margin": confidence})
