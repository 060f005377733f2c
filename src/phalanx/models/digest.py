"""What a model is, as hashes: two models with one identity compute the same function."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

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

    A network that was not built by name is identified by ``code``, because equal weights
    under different code are a different classifier.
    """
    inputs, named = model.inputs, bool(model.card.architecture)
    return {
        "architecture": model.card.architecture or type(model.network).__qualname__,
        "options": dict(model.card.options),
        "code": None if named else code_digest(model.network),
        "weights": weights_digest(model.network),
        "range": list(inputs.range),
        "mean": list(inputs.mean),
        "std": list(inputs.std),
        "shape": None if inputs.shape is None else list(inputs.shape),
        "classes": model.classes,
    }


def code_digest(network: nn.Module) -> str:
    """SHA-256 hex over a network's printed structure and the files that define its classes.

    torch's own classes count by name only; a class without a readable source (made in C, or
    typed into a plain Python prompt) too.
    """
    digest = hashlib.sha256(re.sub(r" at 0x[0-9a-f]+", "", repr(network)).encode())
    classes = {type(module) for module in network.modules()}
    for part in sorted(classes, key=lambda part: (part.__module__, part.__qualname__)):
        digest.update(f"{part.__module__}.{part.__qualname__}|".encode())
        if not part.__module__.startswith("torch."):
            digest.update(_source(part))
    return digest.hexdigest()


def _source(part: type) -> bytes:
    try:
        path = inspect.getsourcefile(part)
        if path is not None and Path(path).is_file():
            return Path(path).read_bytes()
        return inspect.getsource(part).encode()
    except (TypeError, OSError):
        return b""
