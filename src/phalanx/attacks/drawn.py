"""Targets that draw: a smoothed classifier, and a defence with random numbers of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from phalanx.attacks.draws import Draws
from phalanx.attacks.target import Seen, Target, require_finite, rows_of
from phalanx.errors import ParameterError
from phalanx.models.model import InputSpec
from phalanx.models.usercode import user_code
from phalanx.runtime.keys import noise_key

KEPT = 1 << 26
"""Values of noise that are kept for the next query of their points."""


class Scorer(Protocol):
    """What is smoothed: a `Model` or an `Ensemble`."""

    @property
    def inputs(self) -> InputSpec:
        """What it expects."""
        ...

    @property
    def classes(self) -> int:
        """How many it names."""
        ...

    def __call__(self, x: Tensor) -> Tensor:
        """Scores ``(B, C)``."""
        ...


def check_draws(name: str, count: int) -> None:
    """Refuse a number of draws that is none.

    Raises:
        ParameterError: it is not a whole number from 1.
    """
    if type(count) is not int or count < 1:
        raise ParameterError(f"{count!r} draws ({name})", repair="a whole number from 1")


class SmoothedTarget(Target):
    """A classifier under Gaussian noise, which answers with the class of most votes.

    Attacked as by Salman et al. (NeurIPS 2019): gradients of the mean prediction over noises that
    stay those of their point; judged by the votes under other noises, which estimate the answer.

    Args:
        model: what is smoothed.
        sigma: noise level in input units, positive.
        device: where it runs.
        draws: noises of a gradient.
        judged: votes of an answer.
        rows: inputs of a pass, each under every noise.
    """

    exact: ClassVar[bool] = False
    pooled: ClassVar[bool] = True

    def __init__(
        self,
        model: Scorer,
        sigma: float,
        device: torch.device,
        *,
        draws: int = 16,
        judged: int = 100,
        rows: int | None = None,
    ) -> None:
        check_draws("noises of a gradient", draws)
        check_draws("votes", judged)
        if not 0 < sigma < float("inf"):
            raise ParameterError(f"the noise level is {sigma}", why="it is positive and finite")
        self.model, self.sigma, self.draws, self.judged = model, sigma, draws, judged
        self.inputs, self.classes, self.device = model.inputs, model.classes, device
        self.name = "the smoothed classifier"
        self.rows = rows_of(device, rows)
        self.weights = torch.full((draws,), 1 / draws, device=device)
        self._noise: dict[int, Tensor] = {}

    def see(self, x: Tensor, keys: Sequence[int]) -> Seen:
        """Its scores under the point's noises."""
        noise = torch.stack([self._noise_of(key, x[0]) for key in keys], 1)
        scores = self._scores(x, noise)
        return Seen(scores, scores)

    def agreement(self, scores: Tensor, y: Tensor) -> Tensor:
        """Whether ``y`` has most votes (the first class of those that have): 0 or 1."""
        votes = torch.nn.functional.one_hot(scores.argmax(-1), self.classes).sum(0)
        return (votes.argmax(-1) == y).double()

    def right(self, x: Tensor, y: Tensor, keys: Sequence[int]) -> Tensor:
        """Whether the votes under noises of ``keys`` are for ``y``: 0 or 1."""
        found = []
        with torch.inference_mode():
            for i, key in enumerate(keys):
                noise = self._drawn(key, self.judged or 1, x[0])
                found.append(self._scores(x[i : i + 1], noise[:, None]).clone())
        scores = torch.cat(found, 1)
        require_finite(scores, self.name)
        return self.agreement(scores.clone(), y)

    def _scores(self, x: Tensor, noise: Tensor) -> Tensor:
        noisy = (x + noise).flatten(0, 1)
        with user_code(f"{self.name} on inputs of shape {tuple(noisy.shape)}"):
            return self.model(noisy).float().unflatten(0, (len(noise), len(x)))

    def _noise_of(self, key: int, like: Tensor) -> Tensor:
        if key not in self._noise:
            if len(self._noise) * self.draws * like.numel() >= KEPT:
                self._noise.clear()
            self._noise[key] = self._drawn(key, self.draws, like)
        return self._noise[key]

    def _drawn(self, key: int, count: int, like: Tensor) -> Tensor:
        numbers = Draws([key], self.device).normals(
            torch.zeros(1, dtype=torch.int64, device=self.device), 0, count * like.numel()
        )
        return self.sigma * numbers.view(count, *like.shape)


Random = Callable[[Tensor, torch.Generator], Tensor]
"""``forward(x (B, *shape), generator) -> scores (B, C)``."""


class Sampled(Target):
    """A defence that draws: gradients are means over draws, accuracy an estimate.

    Every input runs alone, under a generator whose seed follows from its point and query: what the
    defence draws can then depend neither on the company of an input nor on the order of the work.

    Args:
        forward: see `Random`.
        inputs, classes: what it expects and names.
        device: where it runs.
        draws: passes of a gradient (expectation over transformation; Athalye et al., ICML 2018).
        judged: passes from which accuracy is estimated.
    """

    exact: ClassVar[bool] = False
    fresh: ClassVar[bool] = True

    def __init__(
        self,
        forward: Random,
        inputs: InputSpec,
        classes: int,
        device: torch.device,
        *,
        draws: int = 16,
        judged: int = 100,
        name: str = "the random defence",
    ) -> None:
        check_draws("passes of a gradient", draws)
        check_draws("passes of an answer", judged)
        self.forward, self.inputs, self.classes, self.device = forward, inputs, classes, device
        self.draws, self.judged, self.name, self.rows = draws, judged, name, 1
        self.weights = torch.full((draws,), 1 / draws, device=device)

    def see(self, x: Tensor, keys: Sequence[int]) -> Seen:
        """Scores of every draw."""
        rows = [self._drawn(x[i : i + 1], key, self.draws) for i, key in enumerate(keys)]
        scores = torch.cat(rows, 1)
        return Seen(scores, scores)

    def right(self, x: Tensor, y: Tensor, keys: Sequence[int]) -> Tensor:
        """The share of fresh draws that are right."""
        with torch.inference_mode():
            rows = [self._drawn(x[i : i + 1], k, self.judged or 1) for i, k in enumerate(keys)]
        scores = torch.cat(rows, 1).clone()
        require_finite(scores, self.name)
        return (scores.argmax(-1) == y).double().mean(0)

    def _drawn(self, x: Tensor, key: int, count: int) -> Tensor:
        found = []
        for draw in range(count):
            # A generator takes 64 bits of a seed.
            seed = noise_key("draw", key, draw) & (2**63 - 1)
            generator = torch.Generator(device=x.device).manual_seed(seed)
            with user_code(f"{self.name} on inputs of shape {tuple(x.shape)}"):
                found.append(self.forward(x, generator).float())
        return torch.stack(found)


def from_torch_state(model: Callable[[Tensor], Tensor]) -> Random:
    """A model that draws from torch's own generator, as one that is handed a generator.

    Torch's state is what it was afterwards. Numbers from elsewhere (``random``, numpy) stay
    unaccounted for.
    """

    def forward(x: Tensor, generator: torch.Generator) -> Tensor:
        devices = [x.device] if x.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(generator.initial_seed())
            return model(x)

    return forward
