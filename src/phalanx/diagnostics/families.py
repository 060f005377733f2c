"""Whose footprint is measured: given members, or a network's name with random weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from phalanx.data.locate import load
from phalanx.errors import ModelError, ParameterError
from phalanx.models.build import build, networks
from phalanx.models.hypernetwork import OPTION, Generated, share
from phalanx.models.model import InputSpec, Model, ModelCard
from phalanx.models.resolve import Declaration, resolve_all, usual
from phalanx.noise.stream import NormalStream
from phalanx.runtime.keys import noise_key


def families(
    specs: Sequence[str], said: Declaration, members: int | None, *, ps: bool, seed: int
) -> dict[str, list[Model]]:
    """Members by name of the family; the given ones have none.

    Args:
        specs: MODEL strings, or one name of a network without weights.
        said: what models without a card are.
        members: how many of a network without weights; None: 1.
        ps: also two families of the same architecture with generated convolutions and random
            weights: a hypernetwork for each member, and one for all.
        seed: of random weights.

    Raises:
        ParameterError: ``members`` of models that have weights.
        ModelError: ``ps`` of an architecture that is not known by name.
    """
    own = given(specs, said, members, seed)
    found = {"": own}
    if not ps:
        return found
    card, shape = own[0].card, own[0].inputs.shape
    if not card.architecture or shape is None or isinstance(own[0].network, Generated):
        raise ModelError(
            f"--ps has nothing to add to {card.name!r}",
            why="its card names no plain architecture to build again with generated convolutions",
            repair="a built-in name such as resnet18, or a checkpoint of one",
        )
    for name, shared in (("PS-RED", False), ("PS-RED, one hypernetwork", True)):
        options = {**card.options, OPTION: {"shared": shared}}
        built = [fresh(card.architecture, own[0], options, seed, i) for i in range(len(own))]
        share([member.network for member in built])
        found[name] = built
    return found


def given(specs: Sequence[str], said: Declaration, members: int | None, seed: int) -> list[Model]:
    """The models of MODEL strings; a lone network's name without weights is drawn at random."""
    bare = len(specs) == 1 and specs[0] in networks.names() and said.weights is None
    if not bare:
        if members is not None:
            raise ParameterError(
                f"--members {members} of models that have weights",
                why="they are as many as they are",
                repair="leave --members out",
            )
        return [model.eval() for model in resolve_all(specs, said)]
    if members is not None and members < 1:
        raise ParameterError(f"--members is {members}", why="there must be at least 1")
    name = specs[0]
    classes, shape = usual(name)
    like = Model(torch.nn.Identity(), InputSpec(shape=shape), said.classes or classes)
    return [fresh(name, like, {}, seed, index) for index in range(members or 1)]


def fresh(name: str, like: Model, options: dict[str, object], seed: int, index: int) -> Model:
    """A member with random weights for the inputs and classes of another."""
    key = noise_key("footprint", seed, index)
    network = build(name, like.classes, like.inputs.shape or (), key=key, **options)
    card = ModelCard(f"{name}-{index}", name, dict(options))
    return Model(network.eval(), replace(like.inputs), like.classes, card)


def images(model: Model, count: int, data: str | None, folder: Path | None, seed: int) -> Tensor:
    """Inputs ``(count, *shape)``: of a data set, again from its start where it is short, or
    random ones in the model's range.
    """
    if data is not None:
        dataset = load(data, folder)
        return dataset.images([index % len(dataset) for index in range(count)])
    shape = model.inputs.shape
    if shape is None:
        raise ModelError(
            f"{model.card.name!r} does not say the shape of an input", repair="--data NAME"
        )
    low, high = model.inputs.range
    stream = NormalStream(noise_key("footprint", seed, "inputs"), torch.Size(shape).numel())
    drawn = stream.rows(count).view(count, *shape)
    return (low + (high - low) * (0.5 + drawn / 6)).clamp(low, high)
