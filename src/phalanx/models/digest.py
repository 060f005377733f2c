"""What a model is, as hashes: two models with one identity compute the same function."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from phalanx.errors import PhalanxError
from phalanx.models.build import lay_out, networks
from phalanx.models.fingerprint import fingerprint, is_own
from phalanx.models.model import Model


def weights_digest(module: nn.Module) -> str:
    """SHA-256 hex over names, dtypes, shapes and bytes of every parameter and buffer.

    Tensors are visited in the order of their names, so neither the device, the memory layout
    nor the order of registration matters; one changed bit does.

    >>> a, b = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    >>> _ = b.load_state_dict(a.state_dict())
    >>> weights_digest(a) == weights_digest(b)
    True
    """
    tensors: dict[str, Tensor] = dict(module.named_parameters(remove_duplicate=False))
    tensors.update(module.named_buffers(remove_duplicate=False))
    return tensors_digest(tensors)


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """`weights_digest` of named tensors."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def model_identity(model: Model) -> dict[str, Any]:
    """JSON values that tell this model from any other: code, weights, input and classes.

    ``code`` is None where the card names a registered network and the network is that network
    as it is laid out, part by part. Any other is identified by `code_digest`, because equal
    weights under different code are a different classifier.

    Raises:
        ModelError: see `code_digest`.
    """
    inputs = model.inputs
    return {
        "architecture": model.card.architecture or type(model.network).__qualname__,
        "options": dict(model.card.options),
        "code": None if _as_named(model) else code_digest(model.network),
        "weights": weights_digest(model.network),
        "range": list(inputs.range),
        "mean": list(inputs.mean),
        "std": list(inputs.std),
        "shape": None if inputs.shape is None else list(inputs.shape),
        "classes": model.classes,
    }


def code_digest(network: nn.Module) -> str:
    """SHA-256 hex over what a network computes with beside its weights.

    Its modules' classes, attributes (private ones and tensors too; not ``training``), hooks and
    functions set on instances, see `fingerprint`. A network that changes an attribute whenever
    it is run is therefore another one after every run.

    Raises:
        ModelError: it holds something whose state cannot be read.
    """
    return fingerprint(network)


def _as_named(model: Model) -> bool:
    """Whether the network is the one its card names, in phalanx's own code."""
    card, shape = model.card, model.inputs.shape
    if shape is None or card.architecture not in networks.names():
        return False
    if not all(is_own(type(module)) for module in model.network.modules()):
        return False
    try:
        with torch.device("meta"):
            named = lay_out(card.architecture, model.classes, shape, **card.options)
    except PhalanxError:
        return False
    return code_digest(named) == code_digest(model.network)
