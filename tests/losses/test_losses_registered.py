"""What every registered loss promises; a new file in the folder joins by being there."""

import copy
import inspect
import math

import pytest
import torch
from losses_helpers import CLASSES, ROWS, batch, linear, members_for, seeded, weights
from pydantic_core import PydanticUndefined

from phalanx.errors import ConfigurationError
from phalanx.losses import build_loss, losses

NAMES = losses.names()


def built(name, **options):
    return build_loss(name, {"sigma": 0.5, **options})


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


def gradient(members) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in weights(members)])


@pytest.mark.parametrize("progress", [0.0, 50.0])
def test_it_is_a_finite_scalar_with_a_finite_gradient_everywhere(name, progress):
    loss, given = built(name), batch(progress=progress)
    members = members_for(loss)
    output = seeded(loss, members, given)
    assert output.loss.shape == ()
    assert output.loss.dtype == torch.float32
    assert torch.isfinite(output.loss)
    output.loss.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in weights(members))
    assert all(gradient([member]).norm() > 0 for member in members)


def test_the_log_gets_noisy_logits_and_plain_numbers(name):
    loss, given = built(name), batch()
    members = members_for(loss)
    output = seeded(loss, members, given)
    assert output.logits.shape == (len(members), ROWS, CLASSES)
    assert not output.logits.requires_grad
    for value in output.metrics.values():
        assert value.shape == ()
        assert not value.requires_grad
        assert torch.isfinite(value)


def test_it_repeats_itself_bit_by_bit(name):
    loss, results = built(name), []
    for _ in range(2):
        members = members_for(loss)
        output = seeded(loss, members, batch(progress=20.0))
        output.loss.backward()
        results.append((output.loss, gradient(members), output.logits))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("training", [True, False])
def test_a_call_leaves_the_members_and_the_batch_as_they_were(name, training):
    loss, given = built(name), batch(progress=20.0)
    members = [member.train(training) for member in members_for(loss)]
    frozen = members[0][0].weight.requires_grad_(False)
    members[0][1].eval()  # a part the user keeps in evaluation mode
    for p in weights(members):
        p.grad = torch.ones_like(p)
    before = copy.deepcopy(members)
    x, y = given.x.clone(), given.y.clone()
    seeded(loss, members, given)
    assert torch.equal(given.x, x)
    assert torch.equal(given.y, y)
    assert given.x.grad is None
    assert not given.x.requires_grad
    assert not frozen.requires_grad
    for now, then in zip(weights(members), weights(before), strict=True):
        assert torch.equal(now, then)
        assert torch.equal(now.grad, torch.ones_like(now))
        assert now.requires_grad == then.requires_grad
    for member, old in zip(members, before, strict=True):
        modes = zip(member.modules(), old.modules(), strict=True)
        assert all(now.training == then.training for now, then in modes)
    if not training:
        buffers = [[b for m in group for b in m.buffers()] for group in (members, before)]
        assert all(torch.equal(now, then) for now, then in zip(*buffers, strict=True))


def test_only_training_passes_reach_the_running_statistics(name):
    """An attack looks at the member in evaluation mode: it must not shift what is learned."""
    loss = built(name)
    members = members_for(loss)
    passes = [0] * len(members)

    def count(index):
        def hook(module, _, output):
            passes[index] += module.training and output.requires_grad

        return hook

    for index, member in enumerate(members):
        member[1].register_forward_hook(count(index))
    seeded(loss, members, batch(progress=20.0))
    seen = [int(member[1].num_batches_tracked) for member in members]
    assert seen == passes
    assert all(1 <= count <= 3 for count in seen)


def test_the_draws_are_consecutive_and_documented(name):
    loss, given = built(name), batch(progress=20.0)
    seeded(loss, members_for(loss), given)
    assert set(given.noise.asked) == set(range(max(given.noise.asked) + 1))
    assert "Draws:" in inspect.getdoc(losses.get(name))


def test_the_noise_is_scaled_by_sigma_and_never_assumed_normal(name):
    """Whatever ``noise`` returns is used as it is: zeros give the loss without noise."""
    quiet, still = batch(), batch()
    quiet.noise.table.zero_()
    loss, silent = built(name), built(name, sigma=0.0)
    members = [member.eval() for member in members_for(loss)]
    first, second = (seeded(way, members, given) for way, given in ((loss, quiet), (silent, still)))
    assert torch.equal(first.logits, second.logits)


def test_it_works_under_bfloat16_and_channels_last(name):
    loss, gradients = built(name), []
    for enabled in (False, True):
        members = [member.eval() for member in members_for(loss)]
        given = batch(progress=20.0)
        if enabled:
            members = [m.to(memory_format=torch.channels_last) for m in members]
            given.x.data = given.x.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            output = seeded(loss, members, given)
        assert output.loss.dtype == torch.float32
        output.loss.backward()
        gradients.append(gradient(members))
    exact, rounded = gradients
    assert torch.isfinite(rounded).all()
    assert torch.cosine_similarity(exact, rounded, dim=0) > 0.9


def test_it_works_on_vectors(name):
    loss = built(name)
    members = members_for(loss, make=lambda seed: linear(seed, (6,)))
    output = seeded(loss, members, batch(shape=(6,), progress=20.0))
    output.loss.backward()
    assert torch.isfinite(gradient(members)).all()


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"sigma": -0.1}, "loss.sigma"),
        ({"sigma": math.nan}, "loss.sigma"),
        ({"sigma": math.inf}, "loss.sigma"),
        ({"sigma": "loud"}, "loss.sigma"),
        ({}, "loss.sigma"),
        ({"sigma": 0.5, "colour": 1}, "loss.colour"),
    ],
)
def test_what_no_loss_takes_is_refused_by_name(name, options, field):
    with pytest.raises(ConfigurationError, match=field):
        build_loss(name, options)


def test_every_option_has_a_default_and_refuses_nonsense(name):
    for option, info in losses.get(name).model_fields.items():
        if option == "sigma":
            continue
        assert info.default is not PydanticUndefined or info.default_factory is not None
        for value in (-1, math.nan, "nonsense"):
            with pytest.raises(ConfigurationError, match=f"loss.{option}"):
                built(name, **{option: value})


def test_every_option_is_explained(name):
    text = inspect.getdoc(losses.get(name))
    own = set(losses.get(name).model_fields) - {"sigma"}
    assert all(f"{option}:" in text or f"{option}," in text for option in own)
