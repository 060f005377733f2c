"""What every registered network must satisfy; each check takes a freshly built `Model`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from phalanx.errors import ModelError
from phalanx.models.build import build
from phalanx.models.checkpoint import load, save
from phalanx.models.digest import weights_digest
from phalanx.models.model import InputSpec, Model, ModelCard
from phalanx.models.validate import validate
from phalanx.smoothing.bank import Layout, MemberBank

CLASSES, SHAPE, ROWS = 10, (3, 32, 32), 4


def built(name: str) -> Model:
    """The network as certification meets it: in evaluation mode, with its card."""
    network = build(name, CLASSES, SHAPE, key=7)
    card = ModelCard(name=name, architecture=name, sigma=0.5)
    return Model(network, InputSpec(shape=SHAPE), CLASSES, card).eval()


def inputs(seed: int = 0) -> torch.Tensor:
    """Noisy images, as they leave the input range under smoothing."""
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(ROWS, *SHAPE, generator=draw) + torch.randn(ROWS, *SHAPE, generator=draw)


@torch.inference_mode()
def logits_have_classes_and_are_finite(model: Model) -> None:
    """Float logits (B, classes), finite, and not the same for every input."""
    logits = model(inputs())
    assert logits.shape == (ROWS, CLASSES)
    assert logits.is_floating_point()
    assert torch.isfinite(logits).all()
    assert not torch.equal(logits[0], logits[1])


@torch.inference_mode()
def deterministic(model: Model) -> None:
    """Two passes over one batch agree bit for bit, and leave batch and weights alone."""
    x, digest = inputs(), weights_digest(model.network)
    first = model(x)
    assert torch.equal(first, model(x))
    assert torch.equal(x, inputs())
    assert weights_digest(model.network) == digest


@torch.inference_mode()
def company_does_not_matter(model: Model) -> None:
    """In a batch of one shape a row's logits do not depend on the other rows at all;
    in another shape they differ by rounding alone.
    """
    x, others = inputs(), inputs(seed=1)
    others[0] = x[0]
    together = model(x)
    assert torch.equal(together[0], model(others)[0])
    torch.testing.assert_close(together[:1], model(x[:1]), rtol=1e-3, atol=1e-4)


def run_as_it_is(model: Model) -> None:
    """What certification runs in its place gives its logits, and hides no NaN."""
    x = inputs()
    bank = MemberBank([model], Layout(), torch.device("cpu"))
    with torch.inference_mode():
        torch.testing.assert_close(bank.logits(x)[0], model(x), rtol=1e-3, atol=1e-4)
    x[1, 0, 5, 5] = torch.nan
    assert bank.logits(x)[0].isnan().any(dim=1).tolist() == [False, True, False, False]


def checkpoint_keeps_it(model: Model) -> None:
    """Saved and loaded again it has the same weights, inputs, card and logits."""
    with tempfile.TemporaryDirectory() as folder:
        again = load(save(model, Path(folder) / "model"))
    assert weights_digest(again.network) == weights_digest(model.network)
    assert (again.inputs, again.classes) == (model.inputs, model.classes)
    assert again.card == model.card
    with torch.inference_mode():
        assert torch.equal(again(inputs()), model(inputs()))


def training_mode_is_refused(model: Model) -> None:
    """One part left in training mode is enough to refuse the whole model."""
    validate(model)
    part = next(iter(model.network.children()), model.network)
    part.train()
    try:
        validate(model)
    except ModelError:
        return
    finally:
        part.eval()
    raise AssertionError("a model in training mode was accepted")


CHECKS: list[Callable[[Model], None]] = [
    logits_have_classes_and_are_finite,
    deterministic,
    company_does_not_matter,
    run_as_it_is,
    checkpoint_keeps_it,
    training_mode_is_refused,
]
