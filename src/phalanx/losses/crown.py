"""Training with linear bounds throughout (CROWN: Zhang et al. 2018; Xu et al. 2020)."""

from __future__ import annotations

from typing import Literal

from phalanx.bounds.engine import Settings
from phalanx.losses import losses
from phalanx.losses._certified import Answer, CertifiedLoss, Question, Share


@losses.register("crown")
class Crown(CertifiedLoss):
    """Right wherever linear bounds cannot exclude an image, the boxes in between by them too.

    As `ibp`, with the bounds of the method `crown`: a backward pass for every layer, whose cost
    grows with the number of units that may be on and off. Tighter than intervals, and often worse
    to train with: the bounds are discontinuous in the weights where a lower line turns (Jovanovic
    et al. 2022), which ``relaxation: parallel`` avoids.

    Draws: noise 0, with sigma above 0 only: the ball is then around the image under its noise.

    Attributes:
        eps, norm, kappa, warmup_epochs, ramp_epochs, ramp: see `CertifiedLoss`.
        relaxation: ``adaptive`` lower lines (CROWN, DeepPoly), or ``parallel`` to the upper ones
            (Fast-Lin, DeepZ).
    """

    kappa: Share = 0.0
    relaxation: Literal["adaptive", "parallel"] = "adaptive"

    def answer(self, question: Question) -> Answer:
        """The better of lines and boxes, as `bounds.compute` has it."""
        engine = question.bounded(Settings(parallel=self.relaxation == "parallel"))
        return Answer(question.by_lines(engine).fmax(question.by_boxes(engine)))
