"""Convolutions that are not stored but generated: PS-RED's parameter sharing.

A small hypernetwork (Ha, Dai & Le, ICLR 2017) turns an embedding into a unit of kernels; every
convolution is put together from units and stores their embeddings alone. So a network costs
its hypernetwork once, and each layer next to nothing:

    phalanx train cifar10-resnet18-ps-red
    model: {name: resnet18, options: {hypernetwork: {unit: 64, hidden: 128, embedding: 128}}}

It is a transform of the laid-out module, so every registered network has it. The first
convolution, normalisations and linear layers stay stored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn
from torch.nn.functional import conv2d

from phalanx.errors import ModelError, ParameterError
from phalanx.models.model import Model

OPTION = "hypernetwork"
"""The network option that asks for this, beside the network's own."""

SIDE = 3
"""Height and width of a unit's kernels."""


class Sizes(BaseModel):
    """What a hypernetwork is like; the defaults are PS-RED's.

    Attributes:
        unit: input and output channels of a unit.
        hidden: length of what stands between embedding and kernels, for each output channel.
        embedding: length of an embedding.
        shared: all members of an ensemble have one hypernetwork, instead of one each.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    unit: int = Field(default=64, ge=1, le=4096)
    hidden: int = Field(default=128, ge=1, le=4096)
    embedding: int = Field(default=128, ge=1, le=4096)
    shared: bool = False


def sizes_in(options: Mapping[str, Any]) -> Sizes | None:
    """The hypernetwork that a network's options ask for; None where they ask for none.

    Raises:
        ParameterError: a size is unknown or out of range.

    >>> sizes_in({"hypernetwork": {"unit": 16}}).unit, sizes_in({"hidden": [64]})
    (16, None)
    """
    if OPTION not in options:
        return None
    try:
        return Sizes.model_validate(options[OPTION])
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join([OPTION, *map(str, first["loc"])])
        raise ParameterError(
            f"{place} does not fit: {first['msg'].lower()}",
            repair="hypernetwork: {unit: 64, hidden: 128, embedding: 128, shared: false}",
        ) from None


class Hypernetwork(nn.Module):
    """Embeddings to units of kernels, in two linear maps.

    ``h = (z W2 + b2)`` has a row of ``hidden`` values for every output channel of the unit, and
    ``K = h W1 + b1`` turns each row into that channel's kernels. With PS-RED's sizes these are
    1,131,072 parameters.

    >>> sum(p.numel() for p in Hypernetwork(Sizes()).parameters())
    1131072
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = (sizes.unit, sizes.hidden, sizes.embedding)
        unit, hidden, embedding = self.sizes
        self.rows = nn.Parameter(torch.empty(embedding, unit * hidden))
        self.rows_bias = nn.Parameter(torch.empty(unit * hidden))
        self.kernels = nn.Parameter(torch.empty(hidden, unit * SIDE * SIDE))
        self.kernels_bias = nn.Parameter(torch.empty(unit * SIDE * SIDE))

    def forward(self, z: Tensor) -> Tensor:
        """Units ``(..., unit, unit, 3, 3)`` of embeddings ``(..., embedding)``; output channels
        come first.
        """
        unit, hidden, _ = self.sizes
        rows = (z @ self.rows + self.rows_bias).unflatten(-1, (unit, hidden))
        return (rows @ self.kernels + self.kernels_bias).unflatten(-1, (unit, SIDE, SIDE))


class GeneratedConv2d(nn.Module):
    """A convolution whose kernels come from a hypernetwork.

    ``(a unit) x (b unit)`` channels are ``a b`` units, each with an embedding of its own. Channels
    that are no multiple of the unit take the leading part of the last ones, as do kernels that
    are no multiple of 3 (one of 5x5 is 2x2 units); a 1x1 kernel is the spatial mean of one of 3x3.

    Args:
        conv: the convolution it stands for; its geometry and bias are kept.
        hypernetwork: where kernels come from. It is no child of this module, so that its
            weights are stored, counted and trained once.
    """

    def __init__(self, conv: nn.Conv2d, hypernetwork: Hypernetwork) -> None:
        super().__init__()
        unit, _, embedding = hypernetwork.sizes
        self.shape = (conv.out_channels, conv.in_channels, *_pair(conv.kernel_size))
        self.geometry = (_pair(conv.stride), _pair(conv.padding), _pair(conv.dilation))
        self.bias = conv.bias
        units = [-(-size // unit) for size in self.shape[:2]]
        tiles = [-(-size // SIDE) for size in self.shape[2:]]
        self.units = (*units, *tiles)
        self.embeddings = nn.Parameter(torch.empty(math.prod(self.units), embedding))
        self._source = (hypernetwork,)

    @property
    def averaged(self) -> bool:
        """Whether the kernel is 1x1."""
        return self.shape[2:] == (1, 1)

    def weight(self) -> Tensor:
        """Kernels ``(out, in, height, width)``, with a graph; never in reduced precision."""
        out, inputs, height, width = self.shape
        with torch.autocast(self.embeddings.device.type, enabled=False):
            units = self._source[0](self.embeddings).unflatten(0, self.units)
            if self.averaged:
                units = units.mean((-2, -1), keepdim=True)
            # (a, b, rows, columns, u, u, 3, 3) to (a u, b u, 3 rows, 3 columns)
            kernels = units.permute(0, 4, 1, 5, 2, 6, 3, 7)
            whole = kernels.flatten(6, 7).flatten(4, 5).flatten(2, 3).flatten(0, 1)
        return whole[:out, :inputs, :height, :width]

    def forward(self, x: Tensor) -> Tensor:
        """``(B, in, H, W)`` to ``(B, out, H', W')``, kernels generated anew."""
        return conv2d(x, self.weight(), self.bias, *self.geometry)

    def stored(self) -> nn.Conv2d:
        """The same convolution with its present kernels as stored weights."""
        out, inputs, height, width = self.shape
        kernel, geometry = (height, width), self.geometry
        conv = nn.Conv2d(inputs, out, kernel, *geometry, bias=False, device="meta")
        conv.weight = nn.Parameter(self.weight().detach().contiguous().clone())
        if self.bias is not None:
            conv.bias = nn.Parameter(self.bias.detach().clone())
        return conv.train(self.training)


class Generated(nn.Module):
    """A network whose convolutions are generated, and what generates them.

    Attributes:
        hypernetwork: one a member, or shared by all (`share`).
        network: maps ``(B, *shape)`` to logits ``(B, classes)``.
        sizes: what was asked for.
    """

    def __init__(self, network: nn.Module, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = (sizes.unit, sizes.hidden, sizes.embedding, sizes.shared)
        self.hypernetwork = Hypernetwork(sizes)
        self.network = network
        for name in generated_names(network):
            conv = network.get_submodule(name)
            if isinstance(conv, nn.Conv2d):
                _put(network, name, GeneratedConv2d(conv, self.hypernetwork))

    @property
    def shared(self) -> bool:
        """Whether members of an ensemble shall have one hypernetwork."""
        return self.sizes[3]

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, classes)`` of inputs ``(B, *shape)``."""
        logits: Tensor = self.network(x)
        return logits

    def generate_from(self, hypernetwork: Hypernetwork) -> None:
        """Use another hypernetwork from now on, with its present weights."""
        self.hypernetwork = hypernetwork
        for module in self.network.modules():
            if isinstance(module, GeneratedConv2d):
                module._source = (hypernetwork,)


def generated_names(network: nn.Module) -> list[str]:
    """The convolutions that are generated: all but the first, and but grouped or padded ones.

    Raises:
        ModelError: there is none.
    """
    found = [name for name, part in network.named_modules() if isinstance(part, nn.Conv2d)]
    plain = [name for name in found[1:] if _usual(network.get_submodule(name))]
    if not plain:
        raise ModelError(
            "a hypernetwork has nothing to generate in this network",
            why=f"it has {len(found)} convolutions, of which the first is stored",
            repair="leave the option 'hypernetwork' out, or take a network such as resnet18",
        )
    return plain


def materialised(network: nn.Module) -> nn.Module:
    """A copy with every generated convolution stored: quicker, larger, the same function.

    A network without any is returned as it is. Later changes of the original do not reach it.
    """
    if not isinstance(network, Generated):
        return network
    inner = deepcopy(network).network
    for name, part in list(inner.named_modules()):
        if isinstance(part, GeneratedConv2d):
            _put(inner, name, part.stored())
    return inner


def cached(model: Model) -> Model:
    """A copy with stored kernels, which is a model of the plain architecture and can be saved.

    Its mode is that of ``model``.
    """
    network = materialised(model.network)
    if network is model.network:
        return model
    options = {key: value for key, value in model.card.options.items() if key != OPTION}
    card = replace(model.card, options=options, digest="")
    return Model(network, model.inputs, model.classes, card)


def share(networks: Sequence[nn.Module]) -> int:
    """Let networks that ask for it have the hypernetwork of the first of them; how many do.

    Raises:
        ModelError: they ask for different sizes.
    """
    found = [network for network in networks if isinstance(network, Generated) and network.shared]
    for network in found[1:]:
        if network.sizes != found[0].sizes:
            raise ModelError(
                f"members ask for hypernetworks of sizes {found[0].sizes} and {network.sizes}",
                why="one that is shared has one size",
            )
        network.generate_from(found[0].hypernetwork)
    return len(found)


def share_equal(networks: Sequence[nn.Module]) -> None:
    """Hold hypernetworks that are shared and equal bit by bit once in memory."""
    kept: list[Generated] = []
    for network in networks:
        if not isinstance(network, Generated) or not network.shared:
            continue
        same = next((one for one in kept if _equal(one, network)), None)
        if same is None:
            kept.append(network)
        else:
            network.generate_from(same.hypernetwork)


def draw(module: Hypernetwork | GeneratedConv2d, normal: Any) -> list[tuple[Tensor, Any]]:
    """Initial values, by ``normal(standard deviation, shape)``: what to fill, and with what.

    Kernels start with the variance that stored ones would have, 2 / (kernel area * output
    channels): an embedding of length 1 gives ``2 / (9 unit)``, and its length is chosen for the
    rest (a spatial mean of nine values needs nine times the variance). Embeddings and what stands
    between the maps have lengths of about 1, whatever the sizes, so that a step of gradient
    descent moves kernels about as far as it would move stored ones: it moves them by the square of
    such a length.
    """
    if isinstance(module, Hypernetwork):
        unit, hidden, _ = module.sizes
        kernel = math.sqrt(2 / (SIDE * SIDE * unit))
        return [
            (module.rows, normal(math.sqrt(1 / hidden), tuple(module.rows.shape))),
            (module.kernels, normal(kernel, tuple(module.kernels.shape))),
            (module.rows_bias, 0.0),
            (module.kernels_bias, 0.0),
        ]
    unit, _, embedding = module._source[0].sizes
    out, _, height, width = module.shape
    variance = SIDE * SIDE * unit / (height * width * out)
    spread = math.sqrt(variance * (SIDE * SIDE if module.averaged else 1) / embedding)
    filled: list[tuple[Tensor, Any]] = [
        (module.embeddings, normal(spread, tuple(module.embeddings.shape)))
    ]
    return filled if module.bias is None else [*filled, (module.bias, 0.0)]


def _equal(first: Generated, second: Generated) -> bool:
    if first.sizes != second.sizes:
        return False
    pairs = zip(first.hypernetwork.parameters(), second.hypernetwork.parameters(), strict=True)
    return all(a.device == b.device and torch.equal(a, b) for a, b in pairs)


def _usual(conv: nn.Module) -> bool:
    return (
        isinstance(conv, nn.Conv2d)
        and conv.groups == 1
        and conv.padding_mode == "zeros"
        and not isinstance(conv.padding, str)
    )


def _pair(sizes: int | str | tuple[int, ...]) -> tuple[int, int]:
    """Height and width of what a convolution says (`_usual` ones say no word)."""
    if not isinstance(sizes, tuple):
        raise ModelError(f"a convolution with {sizes!r} for two sizes cannot be generated")
    height, width = sizes
    return height, width


def _put(network: nn.Module, name: str, part: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, part)
