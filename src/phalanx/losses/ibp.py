"""IBP training (Gowal et al. 2018, arXiv 1810.12715; Shi et al. 2021, arXiv 2103.16871)."""

from __future__ import annotations

from phalanx.bounds.engine import Settings
from phalanx.losses import losses
from phalanx.losses._certified import Answer, CertifiedLoss, Question
from phalanx.losses._interval_terms import interval_terms
from phalanx.losses._member import Weight


@losses.register("ibp")
class Ibp(CertifiedLoss):
    """Right wherever interval bounds cannot exclude an image.

    ``k CE(z) + (1 - k) CE(z_worst)``, the worst logits from interval arithmetic with the margins
    merged into the last layer. Published by Gowal et al.: on MNIST 100 epochs in batches of 100,
    the clean loss for 2,000 steps, then 10,000 steps in which the radius grows and k falls from 1
    to 0.5; members are trained with a larger radius than they are judged by (0.2 for 0.1, 0.4 for
    0.3). By Shi et al.: k = 0 in the end, batch normalisation behind every layer, weights that
    keep boxes as wide as they come (``initialisation: ibp`` of a network), and two terms that hold
    while the radius grows, see `phalanx.losses._interval_terms`; a smooth ramp.

    Draws: noise 0, with sigma above 0 only (which is in neither paper): the ball is then around the
    image under its noise.

    Attributes:
        eps, norm, kappa, warmup_epochs, ramp_epochs, ramp: see `CertifiedLoss`.
        regulariser: weight of the two terms; Shi et al.: 0.5. 0 leaves them out.
    """

    regulariser: Weight = 0.0

    def answer(self, question: Question) -> Answer:
        """One pass of boxes."""
        engine = question.bounded(Settings(backward=False))
        lower = question.by_boxes(engine)
        weight = self.regulariser * (1 - question.grown)
        if weight == 0:
            return Answer(lower)
        tightness, balance = interval_terms(engine)
        return Answer(lower, weight * (tightness + balance))
