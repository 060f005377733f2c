"""Training with the dual of Wong & Kolter (2018, arXiv 1711.00851)."""

from __future__ import annotations

from phalanx.bounds.engine import Settings
from phalanx.losses import losses
from phalanx.losses._certified import Answer, CertifiedLoss, Question, Share


@losses.register("wong-kolter")
class WongKolter(CertifiedLoss):
    """Cross entropy at the dual's lower bounds of the margins, from the first step on.

    The dual of the linear program of all ReLU triangles, at the multipliers that Wong & Kolter fix
    (``a = u / (u - l)``), is the backward pass over lines that are parallel, and every box in
    between comes from the same dual. Here those boxes are cut with intervals too, so that no bound
    is looser than the published one. Published, on MNIST: Adam at 0.001, batches of 50, the radius
    from 0.01 to 0.1; no clean loss. Costs a backward pass of one row for each unit that may be on
    and off; their random projections are not here.

    Draws: noise 0, with sigma above 0 only: the ball is then around the image under its noise.

    Attributes:
        eps, norm, warmup_epochs, ramp_epochs, ramp: see `CertifiedLoss`.
        kappa: weight of the clean loss, at all times.
        start: share of ``eps`` that the ramp begins with.
    """

    kappa: Share = 0.0
    start: Share = 0.1

    def radius(self, grown: float) -> float:
        """From a share of the radius to all of it."""
        return self.eps * (self.start + (1 - self.start) * grown)

    def clean_share(self, grown: float) -> float:
        """The same at all times."""
        return self.kappa

    def answer(self, question: Question) -> Answer:
        """One backward pass over parallel lines."""
        engine = question.bounded(Settings(parallel=True))
        return Answer(question.by_lines(engine))
