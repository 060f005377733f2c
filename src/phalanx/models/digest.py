"""What a model is, as hashes: two models with one identity compute the same function."""

from __future__ import annotations

import hashlib
import inspect
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

    ``source`` is the SHA-256 of the file that defines the network's class, because equal
    weights under different code are a different classifier; None where there is no file.
    """
    inputs = model.inputs
    return {
        "architecture": model.card.architecture or type(model.network).__qualname__,
        "options": dict(model.card.options),
        "source": None if model.card.architecture else source_digest(type(model.network)),
        "weights": weights_digest(model.network),
        "range": list(inputs.range),
        "mean": list(inputs.mean),
        "std": list(inputs.std),
        "shape": None if inputs.shape is None else list(inputs.shape),
        "classes": model.classes,
    }


def source_digest(of: type) -> str | None:
    """SHA-256 hex of the file that defines a class, or None (defined in a notebook, in C)."""
    try:
        path = inspect.getsourcefile(of)
        return None if path is None else hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except (TypeError, OSError):
        return None
