"""The control of DRT: the same two terms, but no term for a pair of members."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from phalanx.losses import Batch, losses
from phalanx.losses._coupled import CoupledLoss, Seen
from phalanx.losses._margins import Form, averaged, lengths, margins_with_gradients
from phalanx.losses._member import Score, Weight


@losses.register("member-gradient-norm")
class MemberGradientNorm(CoupledLoss):
    """Each member's margin shall be large and flat; members do not see one another.

    What `phalanx.losses.drt` gains beyond this is owed to diversity. With its margins ``m_i`` and
    gradients ``g_i``, added to the sum of the base losses are, in the form of the ``paper``,
    means over all rows: ``gradient_norm * sum_i [i right] ||g_i||_2`` and ``-confidence_margin *
    sum_i [i right] m_i``; the form of the ``code`` squares the norm and divides by the number of
    terms that count. Where all gradients are equal, DRT's pair is twice one of these norms
    (four times in ``code``).

    Members share images and noises, as under DRT. Draws: those of the base.

    Attributes:
        base: the loss of one member below, ``name`` and options.
        form: ``paper`` or ``code``.
        gradient_norm: weight of the gradients.
        confidence_margin: weight of the margins.
    """

    replayable: ClassVar[bool] = True
    form: Form = "paper"
    gradient_norm: Weight = 0.5
    confidence_margin: Weight = 1.0

    def regulariser(self, seen: Sequence[Seen], batch: Batch) -> Score:
        """Both terms; the metrics show them unweighted."""
        margin, gradients = margins_with_gradients(seen)
        right = margin.detach() > 0
        norm = averaged(lengths(gradients, self.form), right, self.form)
        confidence = averaged(margin, right, self.form)
        loss = self.gradient_norm * norm - self.confidence_margin * confidence
        return Score(loss, {"gradient_norm": norm, "confidence_margin": confidence})
