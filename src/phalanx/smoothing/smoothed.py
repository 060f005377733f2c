"""`Smoothed`: a smoothed classifier one can ask for labels."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any

from scipy.special import betainc
from torch import Tensor, nn

from phalanx.data.arrays import from_arrays
from phalanx.ensembles.ensemble import Ensemble
from phalanx.errors import DataError, ModelError, NonFiniteError, ParameterError
from phalanx.models.model import Model
from phalanx.models.validate import probe, validate
from phalanx.noise.distributions import HasLattice, Noise, noise_of
from phalanx.noise.lattice import EIGHT_BIT, Lattice, steps_for
from phalanx.noise.stream import default_generator
from phalanx.runs.schema import INVALID, Counts
from phalanx.runtime.device import resolve_device
from phalanx.smoothing.bank import Layout, MemberBank
from phalanx.smoothing.checks import check_count
from phalanx.smoothing.choices import Choices
from phalanx.smoothing.classifiers import BaseClassifier, classifiers_of
from phalanx.smoothing.confidence.clopper_pearson import check_alpha
from phalanx.smoothing.engine import Engine, Work
from phalanx.smoothing.level import law_of, sigma_of
from phalanx.smoothing.stopping import Chunk
from phalanx.verdicts import ABSTAIN, Abstention

PREDICTION = "prediction"
PROBE_INPUTS = 4
UNIT_RANGE = (0.0, 1.0)


class Smoothed:
    """The smoothed classifier of a model or an ensemble (before smoothing).

    Args:
        model: base classifier; not in training mode.
        sigma: noise level in input units; None takes that of the model's card.
        noise: its distribution, a registered name; None takes that of the model's card.
        order: of a noise that has one, as certificates say it; None: the usual one.
        seed: noise is keyed by (seed, content of the input, phase, chunk).
        batch: rows of a forward pass.
        device: where the members run.
        precision: arithmetic of the members, ``fp32`` or ``bf16``.
        arithmetic: ``lattice``: inputs are moved to a lattice and noise is added there without
            rounding; ``real``: in float32.
        steps: of the lattice over the members' input range, as certificates say it; default: a
            dyadic fraction of an 8-bit step.
        allow_sigma_mismatch: smooth at another level or noise than the model was trained for.
        labels, groups: the classes it decides among, see `Choices`.

    Raises:
        ModelError: not a `Model` or an `Ensemble`, or one that cannot be used as it is.
        ParameterError: a level, batch, seed, device or precision that means nothing.
    """

    def __init__(
        self,
        model: Model | Ensemble,
        sigma: float | None = None,
        *,
        noise: str | None = None,
        order: int | None = None,
        seed: int = 0,
        batch: int = 256,
        device: str = "auto",
        precision: str = "fp32",
        arithmetic: str | None = None,
        steps: int | None = None,
        allow_sigma_mismatch: bool = False,
        labels: Sequence[int] = (),
        groups: Sequence[Sequence[int]] = (),
    ) -> None:
        self._members, classifier = base_of(model)
        choices = Choices(tuple(labels), tuple(map(tuple, groups)))
        choices.check(self._members[0].classes)
        for member in self._members:
            validate(member)
        check_count("batch", batch)
        if type(seed) is not int:
            raise ParameterError(f"seed is {seed!r}", why="it is a whole number")
        self.sigma = sigma_of(self._members, sigma, allow_mismatch=allow_sigma_mismatch)
        self.device = resolve_device(device)
        law = law_of(self._members, noise, order, allow_mismatch=allow_sigma_mismatch)
        made = noise_of(law[0], self.sigma, law[1])
        added = placed(made, self._members[0].inputs.range, arithmetic, steps)
        self._engine = Engine(
            MemberBank(self._members, Layout(precision), self.device),
            [replace(classifier, choices=choices)],
            added,
            seed=seed,
            batch=batch,
            generator=default_generator(self.device),
        )

    def counts(self, x: Any, n: int) -> list[Counts]:
        """Votes of n noisy copies of each input.

        Args:
            x: inputs ``(B, *shape)`` in the model's range, a tensor or an array.
            n: votes for each, at least 1.

        Raises:
            DataError: no batch of inputs, or values, dtype or shape that do not fit the model.
            ParameterError: n is no number of samples.
            ModelError: a member fails on the inputs, or is no function of one input.
        """
        check_count("n", n)
        rows = self._inputs(x)
        for member in self._members:
            device = next((values.device for values in member.parameters()), rows.device)
            probe(member, rows[:PROBE_INPUTS].to(device), self.sigma)
        chunk = Chunk(PREDICTION, 0, n)
        names = [_content(row) for row in rows]
        queue = deque(dict(zip(names, rows, strict=True)).items())
        found: dict[int, Counts] = {}

        def next_work() -> Work | None:
            if not queue:
                return None
            name, row = queue.popleft()
            return Work(name, chunk, row)

        for counted in self._engine.run(next_work):
            found[counted.image] = counted.counts[0]
        return [found[name] for name in names]

    def predict(self, x: Any, *, n: int = 1000, alpha: float = 0.001) -> list[int | Abstention]:
        """A label for each input, or `ABSTAIN`; wrong with probability at most alpha each.

        PREDICT of Cohen et al. (2019): a two-sided binomial test between the two largest
        counts. ``x`` and ``n`` are those of `counts`.

        Raises:
            ParameterError, DataError, ModelError: as `counts`, and alpha outside (0, 1).
            NonFiniteError: a vote had NaN or infinite logits.
        """
        check_alpha(alpha)
        return [_label(counts, alpha) for counts in self.counts(x, n)]

    def _inputs(self, x: Any) -> Tensor:
        """The inputs as float32 ``(B, *shape)`` on the CPU, checked against the members."""
        declared = self._members[0].inputs.range
        # Whole numbers between 0 and 1 are bytes of a dark image: not what such a model expects.
        bytes_for_units = declared == UNIT_RANGE and "int" in str(getattr(x, "dtype", ""))
        value_range = None if bytes_for_units else declared
        dataset = from_arrays(x, value_range=value_range, checksums={})
        rows = dataset.images(range(len(dataset)))
        for member in self._members:
            _check_shape(tuple(rows.shape), member.inputs.shape)
        return rows


def placed(
    noise: Noise, inputs: tuple[float, float], arithmetic: str | None, steps: int | None
) -> Noise:
    """A noise for inputs of a range, on a lattice (None: where it can be) or in float32.

    Raises:
        ParameterError: no such arithmetic for this noise, or a lattice that does not fit.
    """
    able = isinstance(noise, HasLattice)
    chosen = arithmetic or ("lattice" if able else "real")
    fits = (chosen == "lattice" and able) or (chosen == "real" and steps is None)
    if not fits:
        raise ParameterError(
            f"arithmetic {chosen!r} with steps {steps!r} for {type(noise).__name__} noise",
            repair="arithmetic='lattice' for Gaussian noise, with steps as a certificate says"
            " them; or 'real'",
        )
    if chosen == "real" or not isinstance(noise, HasLattice):
        return noise
    if steps is None:
        steps = steps_for(*inputs, noise.sigma, levels=EIGHT_BIT, dimensions=1, snapped=False)
    return noise.on(Lattice(*inputs, steps))


def base_of(model: Model | Ensemble) -> tuple[Sequence[Model], BaseClassifier]:
    """The members of a model or an ensemble, and the base classifier they make.

    Raises:
        ModelError: it is neither; says how to make one.
    """
    if isinstance(model, Model):
        return [model], classifiers_of(1)[0]
    if not isinstance(model, Ensemble):
        raise _no_model(model)
    members = model.models
    found = classifiers_of(
        len(members), reducer_names=[model.reducer_name], options=model.reducer_options
    )
    return members, found[0]


def _no_model(given: object) -> ModelError:
    if isinstance(given, nn.Module):
        repair = "phalanx.Model(net, phalanx.InputSpec(range=(0, 1)), classes=10)"
        why = "a bare module does not say which inputs it expects"
    elif isinstance(given, Sequence) and not isinstance(given, str):
        repair, why = "phalanx.Ensemble(models)", "several models need a reducer"
    else:
        repair, why = "phalanx.load(...)", "it is asked for labels"
    return ModelError(
        f"{type(given).__name__} is neither a phalanx.Model nor an Ensemble", why=why, repair=repair
    )


def _check_shape(given: tuple[int, ...], expected: tuple[int, ...] | None) -> None:
    if expected is None or given[1:] == tuple(expected):
        return
    raise DataError(
        f"the inputs x have shape {given}",
        why=f"the model expects a batch of inputs of shape {tuple(expected)}",
        repair="x[None] makes a batch of one input" if given == tuple(expected) else "",
    )


def _content(x: Tensor) -> int:
    """A name for an input, so that its label does not depend on its place in a batch."""
    return int.from_bytes(blake2b(x.numpy().tobytes(), digest_size=16).digest(), "little")


def _label(counts: Counts, alpha: float) -> int | Abstention:
    if INVALID in counts:
        raise NonFiniteError(
            f"{counts[INVALID]} of {sum(counts.values())} noisy copies had NaN or infinite logits"
        )
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    first, second = ranked[0][1], ranked[1][1] if len(ranked) > 1 else 0
    # The binomial test that the two are as likely, two-sided: twice the probability of so many.
    decided = 2 * betainc(first, second + 1, 0.5) <= alpha
    return ranked[0][0] if decided else ABSTAIN
