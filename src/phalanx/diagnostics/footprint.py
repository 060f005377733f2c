"""What an ensemble costs in each form it can be run in: parameters, products, seconds.

Parameters are what training learns (statistics of batch normalisation are not among them). They
are *stored* once however often they are used, and *resident* is what a form holds in memory to
answer: for a random member all members, because any of them may be drawn. Products are counted
by torch for one input; those that generate kernels are done once a pass, whatever the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from phalanx.diagnostics.latency import Latency, latencies
from phalanx.ensembles.ensemble import Ensemble
from phalanx.ensembles.random_ensemble import RandomEnsemble
from phalanx.errors import ParameterError
from phalanx.models.hypernetwork import Generated, cached
from phalanx.models.model import Model

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
        drawn: members of a k-subset; 1 leaves that form out.
        consensus: K, the members who are asked first; None leaves that form out.
        batches: inputs of a pass.
        rounds, seconds: see `phalanx.diagnostics.latency.latencies`.
        seed: of the draws.
    """

    drawn: int = 1
    consensus: int | None = None
    batches: tuple[int, ...] = (1, 256)
    rounds: int = 5
    seconds: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.batches or min(self.batches) < 1:
            raise ParameterError(f"batches of {list(self.batches)} inputs", repair="--batch 1")


@dataclass(frozen=True)
class Form:
    """One way to answer with some members.

    Attributes:
        name: of the form.
        answer: a batch ``(B, *shape)`` to scores ``(B, C)``.
        stored, resident: parameters.
        products: multiplications with addition for one input, expected where they depend on a
            draw or on the input.
        generation: further ones for the kernels of who is asked, once a pass.
        asked: members who are asked, on average.
        seconds: by batch size.
    """

    name: str
    answer: Callable[[Tensor], Tensor] = field(repr=False)
    stored: int
    resident: int
    products: float
    generation: float
    asked: float
    seconds: dict[int, Latency] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "form": self.name,
            "stored_parameters": self.stored,
            "resident_parameters": self.resident,
            "macs": self.products,
            "macs_generation_each_pass": self.generation,
            "members_asked": self.asked,
            "latency": {str(size): found.as_json() for size, found in self.seconds.items()},
        }


def footprint(
    families: Mapping[str, Sequence[Model]],
    x: Tensor,
    options: Options,
    progress: Progress | None = None,
) -> list[Form]:
    """Every form of every family of members, measured side by side.

    Args:
        families: members by name, in evaluation mode, on the device of ``x``; the name is put
            before that of a form.
        x: inputs ``(B, *shape)``, as many as the largest batch; on real images the members asked
            under K-consensus are those of real images.
        options: what is measured.
        progress: told after every turn of every batch size.
    """
    if len(x) < max(options.batches):
        raise ParameterError(
            f"{len(x)} inputs for batches of {max(options.batches)}", repair="a smaller --batch"
        )
    found = [
        replace(form, name=f"{name}, {form.name}" if name else form.name)
        for name, members in families.items()
        for form in forms_of(members, x, options)
    ]
    passes = {form.name: form.answer for form in found}
    seconds: dict[str, dict[int, Latency]] = {form.name: {} for form in found}
    turns = len(passes) * (options.rounds + 1)
    for number, size in enumerate(options.batches):

        def told(done: int, _: int, before: int = number * turns) -> None:
            if progress is not None:
                progress(before + done, len(options.batches) * turns)

        timed = latencies(
            passes, x[:size], rounds=options.rounds, seconds=options.seconds, progress=told
        )
        for name, latency in timed.items():
            seconds[name][size] = latency
    return [replace(form, seconds=seconds[form.name]) for form in found]


def forms_of(members: Sequence[Model], x: Tensor, options: Options) -> list[Form]:
    """The forms of one family, not timed yet; generated members come uncached and cached."""
    stored = parameters(members[:1]), parameters(members)
    if not any(isinstance(member.network, Generated) for member in members):
        return _forms(members, x, options, stored, "")
    quick = [cached(member) for member in members]
    return [
        *_forms(members, x, options, stored, ", uncached"),
        *_forms(quick, x, options, stored, ", cached"),
    ]


def _forms(
    members: Sequence[Model], x: Tensor, options: Options, stored: tuple[int, int], suffix: str
) -> list[Form]:
    """Forms of members as they are; ``stored`` is what one and what all of them store."""
    count, alone = len(members), members[:1]
    work = _work(members, x[:1])
    single = Form("single" + suffix, members[0], stored[0], parameters(alone), *work[0], 1.0)
    if count == 1:
        return [single]
    mean, mean_once = (sum(each) / count for each in zip(*work, strict=True))
    ensemble, resident = Ensemble(members), parameters(members)

    def form(name: str, answer: Callable[[Tensor], Tensor], asked: float) -> Form:
        # Of one query: in a large batch every member is asked by some row, and generates once.
        cost = (mean * asked, mean_once * asked, asked)
        return Form(name + suffix, answer, stored[1], resident, *cost)

    found = [single, form(f"ensemble of {count}", ensemble, float(count))]
    for drawn in sorted({1, options.drawn}):
        name = "random member" if drawn == 1 else f"random {drawn} of {count}"
        found.append(form(name, _drawn(RandomEnsemble(ensemble, drawn), options.seed), drawn))
    if options.consensus is not None:
        asking = Asking(ensemble, options.consensus)
        found.append(form(f"{options.consensus}-consensus", asking, asking.asked(x)))
    return found


def _work(members: Sequence[Model], x: Tensor) -> list[tuple[float, float]]:
    """`products` and `generation` of every member; of one architecture they are counted once."""
    known: dict[str, tuple[float, float]] = {}
    found = []
    for index, member in enumerate(members):
        card = member.card
        key = repr((card.architecture, card.options)) if card.architecture else str(index)
        if key not in known:
            known[key] = products(member, x), generation(member, x)
        found.append(known[key])
    return found


def _drawn(random: RandomEnsemble, seed: int) -> Callable[[Tensor], Tensor]:
    return lambda x: random.scores(x, range(len(x)), seed)


class Asking:
    """K-consensus: the first K members answer, the others where these differ.

    Raises:
        ParameterError: K is not below the number of members.
    """

    def __init__(self, ensemble: Ensemble, first: int) -> None:
        if not 1 <= first < len(ensemble.models):
            raise ParameterError(
                f"a consensus of {first} of {len(ensemble.models)} members",
                repair=f"a number in 1 .. {len(ensemble.models) - 1}",
            )
        self.ensemble, self.first = ensemble, first

    def __call__(self, x: Tensor) -> Tensor:
        """Scores ``(B, C)``: where the first agree, of these."""
        members = self.ensemble.models
        logits = torch.stack([member(x).float() for member in members[: self.first]])
        scores = self.ensemble.reducer(logits)
        apart = (~_agree(logits)).nonzero().flatten()
        if len(apart):
            others = [member(x[apart]).float() for member in members[self.first :]]
            whole = torch.cat([logits[:, apart], torch.stack(others)])
            scores = scores.index_copy(0, apart, self.ensemble.reducer(whole))
        return scores

    @torch.inference_mode()
    def asked(self, x: Tensor) -> float:
        """Members asked about an input of ``x``, on average."""
        members = self.ensemble.models
        logits = torch.stack([member(x).float() for member in members[: self.first]])
        apart = 1 - _agree(logits).double().mean().item()
        return self.first + apart * (len(members) - self.first)


def _agree(logits: Tensor) -> Tensor:
    """Whether all members have one largest class, bool ``(B,)``; not where one is not finite."""
    answers = logits.argmax(-1)
    return (answers == answers[0]).all(0) & torch.isfinite(logits).all(-1).all(0)


def parameters(members: Iterable[nn.Module]) -> int:
    """Parameters of some members together; one that several share counts once.

    >>> layer = nn.Linear(2, 3)
    >>> parameters([layer, layer])
    9
    """
    return sum(parameter.numel() for parameter in nn.ModuleList(members).parameters())


def products(member: Model, x: Tensor) -> float:
    """Multiplications with addition of convolutions and matrices for one input, without those
    that generate kernels.
    """
    return _counted(cached(member), x)


def generation(member: Model, x: Tensor) -> float:
    """Multiplications with addition that generate the member's kernels; 0 where none are."""
    if not isinstance(member.network, Generated):
        return 0.0
    return _counted(member, x) - products(member, x)


@torch.no_grad()
def _counted(member: Model, x: Tensor) -> float:
    with FlopCounterMode(display=False) as counter:
        member(x)
    return counter.get_total_flops() / 2
