"""CROWN-IBP training (Zhang et al. 2020, arXiv 1906.06316)."""

from __future__ import annotations

from phalanx.bounds.engine import Settings
from phalanx.losses import losses
from phalanx.losses._certified import Answer, CertifiedLoss, Question, Share


@losses.register("crown-ibp")
class CrownIbp(CertifiedLoss):
    """Linear bounds at first, where they are stable; intervals in the end, where they are easy.

    As `ibp`, with margins bounded by ``b m_lines + (1 - b) m_boxes``: one backward pass over the
    boxes of interval arithmetic, mixed with these boxes themselves. b falls from 1 as the radius
    grows.
    Published: k from 1 to 0 or 0.5, b from 1 to 0 (on CIFAR-10 at 2/255 b stays 1); on MNIST 200
    epochs in batches of 256, 10 of them clean, then a ramp of 50, trained with 0.2 for 0.1 and with
    0.4 for 0.3.

    Draws: noise 0, with sigma above 0 only: the ball is then around the image under its noise.

    Attributes:
        eps, norm, kappa, warmup_epochs, ramp_epochs, ramp: see `CertifiedLoss`.
        beta: b in the end.
    """

    kappa: Share = 0.0
    beta: Share = 0.0

    def answer(self, question: Question) -> Answer:
        """Both bounds, or the only one that counts."""
        engine = question.bounded(Settings(backward=False))
        beta = 1 - (1 - self.beta) * question.grown
        lower = question.by_boxes(engine)
        if beta > 0:
            lower = beta * question.by_lines(engine) + (1 - beta) * lower
        return Answer(lower)
