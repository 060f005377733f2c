"""DVERGE: diversifying vulnerabilities (Yang et al., NeurIPS 2020, arXiv 2009.14720)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from phalanx.errors import ConfigurationError
from phalanx.losses import Batch, losses
from phalanx.losses._adversary import TINY, spread
from phalanx.losses._coupled import CoupledLoss, Seen
from phalanx.losses._member import Count, Score, Weight, forward
from phalanx.losses._smoothed import evaluating
from phalanx.models.hypernetwork import GeneratedConv2d

Length = Annotated[float, Field(gt=0, allow_inf_nan=False)]
WEIGHTED = (nn.modules.conv._ConvNd, nn.Linear, GeneratedConv2d)


@losses.register("dverge")
class Dverge(CoupledLoss):
    """Members learn from what deceives the others.

    For each member j every image is moved, inside an l_inf ball, until j's features of it are
    close to j's features of another image of the batch; every other member i shall still see
    the first image: ``distillation * sum_i sum_{j != i} CE_i(x + move_j, y)``, mean over the
    batch, is added to ``base_weight`` times the sum of the base losses. Features are a
    convolution's or linear layer's outputs before the nonlinearity (and before a batch
    normalisation between; published: behind it), never the last layer's; the member is looked
    at in evaluation mode (published: in training mode). With sigma above 0, which is not in the
    paper, the move is sought and learnt from under the noise.

    Members share images and noises. Draws: those of the base, noise 0 among them; the layer
    (published: anew each epoch, here each step) and the order of the other images from torch's
    generator, which the trainer seeds anew for every step.

    Attributes:
        base: the loss of one member below, ``name`` and options.
        base_weight: published: 0 (with an adversarial loss below: 1).
        distillation: weight; published: 1.
        distill_eps: radius of the ball in input units; published on CIFAR-10: 0.07 and less.
        distill_step: length of a step; published: a tenth of the radius.
        distill_steps: sign steps with momentum 1 on gradients of l1 norm 1; published: 10.
        layer: which layer's features, counted from 0. None: any.
    """

    base_weight: Weight = 0.0
    distillation: Weight = 1.0
    distill_eps: Length = 0.07
    distill_step: Length = 0.007
    distill_steps: Count = 10
    layer: Annotated[int, Field(ge=0)] | None = None

    @property
    def base_share(self) -> float:
        """Weight of the sum of the base losses."""
        return self.base_weight

    def regulariser(self, seen: Sequence[Seen], batch: Batch) -> Score:
        """The term; the metric shows it unweighted."""
        (noise,) = self._base.noises(batch, 1)
        layers = [feature_layers(each.member) for each in seen]
        layer = self._choose(min(map(len, layers)), batch.x.device)
        order = torch.randperm(len(batch.x), device=batch.x.device)
        moved = [
            self.distil(Features(each.member, own[layer]), batch, noise, order) + noise
            for each, own in zip(seen, layers, strict=True)
        ]
        costs = []
        for i, each in enumerate(seen):
            others = torch.cat([x for j, x in enumerate(moved) if j != i])
            labels = batch.y.repeat(len(seen) - 1)
            costs.append(cross_entropy(forward(each.member, others), labels))
        distilled = (len(seen) - 1) * torch.stack(costs).sum()
        return Score(self.distillation * distilled, {"distilled": distilled})

    def distil(self, features: Features, batch: Batch, noise: Tensor, order: Tensor) -> Tensor:
        """The images, moved towards the features of the ones in another ``order``."""
        with evaluating(features.member):
            target = features(batch.x[order] + noise[order]).detach()
            move = momentum = torch.zeros_like(batch.x)
            for _ in range(self.distill_steps):
                x = (batch.x + move + noise).requires_grad_()
                (gradient,) = torch.autograd.grad((features(x) - target).square().sum(), x)
                length = gradient.flatten(1).abs().sum(1).clamp_min(TINY)
                momentum = momentum + gradient / spread(length, gradient)
                move = move - self.distill_step * momentum.sign()
                move = move.clamp(-self.distill_eps, self.distill_eps)
                move = (batch.x + move).clamp(*batch.value_range) - batch.x
        return batch.x + move

    def _choose(self, count: int, device: torch.device) -> int:
        if self.layer is None:
            return int(torch.randint(count, (), device=device))
        if self.layer >= count:
            raise ConfigurationError(
                f"loss.layer is {self.layer}", why=f"the members have {count} layers of features"
            )
        return self.layer


class Features:
    """What one layer of a member gives, before anything is done to it: ``(B, ...)``, float32."""

    def __init__(self, member: nn.Module, layer: nn.Module) -> None:
        self.member, self.layer = member, layer

    def __call__(self, x: Tensor) -> Tensor:
        """Of inputs ``(B, *shape)``, with a graph."""
        kept: list[Tensor] = []

        def keep(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
            kept.append(output.clone())  # the nonlinearity behind may write to it

        hook = self.layer.register_forward_hook(keep)
        try:
            self.member(x)
        finally:
            hook.remove()
        return kept[-1].float()


def feature_layers(member: nn.Module) -> list[nn.Module]:
    """Convolutions and linear layers but the last, whose outputs are the logits; where there
    is only one, that one.

    >>> network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> feature_layers(network)
    [Linear(in_features=4, out_features=3, bias=True)]
    """
    layers: list[nn.Module] = [p for p in member.modules() if isinstance(p, WEIGHTED)]
    return layers[:-1] or layers
