"""Member logits under keyed noise: the raw material of the correlation report."""

from __future__ import annotations

import torch
from torch import Tensor

from phalanx.ensembles.ensemble import Ensemble
from phalanx.errors import NonFiniteError, ParameterError
from phalanx.models.validate import validate
from phalanx.noise.distributions.gaussian import Gaussian
from phalanx.noise.stream import NormalStream
from phalanx.runtime.keys import noise_key

PHASE = "diagnose"
"""Names these draws in the noise key, so that no certificate ever reuses them."""

BATCH = 256


@torch.inference_mode()
def collect(
    ensemble: Ensemble, x: Tensor, sigma: float, samples: int, seed: int = 0, *, image: int = 0
) -> Tensor:
    """Logits of every member on the same noisy copies of one input.

    Args:
        ensemble: members in evaluation mode; its reducer plays no part.
        x: one input ``(*shape)``, without the batch axis, in the members' input range.
        sigma: noise level in input units, positive.
        samples: number of noise draws, at least 1.
        seed: run seed; with ``image`` it determines the noise and nothing else does.
        image: index of the input in its data set.

    Returns:
        float64 ``(members, samples, classes)`` on the CPU.

    Raises:
        ParameterError: sigma or samples out of range.
        ModelError: a member is not a function: see `phalanx.models.validate.validate`.
        NonFiniteError: a member returned NaN or infinite logits.
    """
    if samples < 1:
        raise ParameterError(f"{samples} noise samples", why="at least one is needed")
    for member in ensemble.members:
        validate(member)
    noise = Gaussian(sigma)
    device = next((p.device for p in ensemble.parameters()), torch.device("cpu"))
    stream = NormalStream(noise_key(seed, image, PHASE), x.numel(), device)
    x, parts = x.to(device), []
    for start in range(0, samples, BATCH):
        noisy = x.new_empty(min(BATCH, samples - start), *x.shape)
        noise.fill(noisy, x, stream)
        parts.append(ensemble.member_logits(noisy).double().cpu())
    logits = torch.cat(parts, dim=1)
    _check_finite(logits)
    return logits


def _check_finite(logits: Tensor) -> None:
    for index, row in enumerate(logits):
        broken = int((~torch.isfinite(row)).sum())
        if broken:
            raise NonFiniteError(
                f"member {index} returned {broken} NaN or infinite logits of {row.numel()}",
                why="no margin can be read from them",
                repair="phalanx doctor MODEL",
            )
