"""PS-RED's convolutions: the published counts, one function cached or not, one shared file."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from phalanx.ensembles.ensemble import Ensemble
from phalanx.errors import CheckpointError, ModelError, ParameterError
from phalanx.models.build import build, lay_out, networks
from phalanx.models.checkpoint import load, save
from phalanx.models.digest import model_identity
from phalanx.models.hypernetwork import (
    Generated,
    GeneratedConv2d,
    Hypernetwork,
    Sizes,
    cached,
    materialised,
    share,
)
from phalanx.models.model import InputSpec, Model, ModelCard
from phalanx.models.resolve import resolve_all
from phalanx.runs.provenance import digest_of
from phalanx.smoothing.bank import Layout, MemberBank

SMALL = {"unit": 8, "hidden": 6, "embedding": 5}
SHAPE = (3, 32, 32)
CONVOLUTIONAL = [name for name in networks.names() if name not in ("mlp", "resnet50")]


def count(*modules: nn.Module) -> int:
    return sum(p.numel() for p in nn.ModuleList(modules).parameters())


def built(name="resnet20", key=0, **sizes) -> nn.Module:
    return build(name, 10, SHAPE, key=key, hypernetwork=SMALL | sizes).eval()


def model(name="resnet20", key=0, **sizes) -> Model:
    options = {"hypernetwork": SMALL | sizes}
    card = ModelCard(f"{name}-{key}", name, options, 0.25)
    return Model(built(name, key, **sizes), InputSpec(shape=SHAPE), 10, card)


@pytest.fixture
def x():
    return torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(0))


def test_the_published_parameter_counts():
    """ICLR 2025 submission 924's ResNet-18: 340 units, one hypernetwork a member or for all."""
    plain = build("resnet18", 10, SHAPE)
    assert count(plain) == 11_173_962
    member = build("resnet18", 10, SHAPE, hypernetwork={})
    assert isinstance(member, Generated)
    generated = [m for m in member.modules() if isinstance(m, GeneratedConv2d)]
    norms = [m for m in member.modules() if isinstance(m, nn.BatchNorm2d)]
    assert sum(len(m.embeddings) for m in generated) == 340
    assert sum(m.embeddings.numel() for m in generated) == 43_520
    assert count(member.hypernetwork) == 1_131_072
    assert count(*norms) == 9_600
    assert count(member.network.conv1) == 1_728
    assert count(member.network.fc) == 5_130
    assert count(member) == 1_191_050 == 1_131_072 + 43_520 + 9_600 + 1_728 + 5_130
    assert 1 - count(member) / count(plain) == pytest.approx(0.8934, abs=5e-5)


@pytest.mark.parametrize(("members", "saved"), [(3, 0.961), (8, 0.982)])
def test_one_hypernetwork_for_all_saves_more_with_every_member(members, saved):
    with torch.device("meta"):
        ensemble = [
            lay_out("resnet18", 10, SHAPE, hypernetwork={"shared": True}) for _ in range(members)
        ]
    assert share(ensemble) == members
    assert 1 - count(*ensemble) / (members * 11_173_962) == pytest.approx(saved, abs=5e-4)


def test_a_unit_is_the_published_formula():
    sizes = Sizes(unit=3, hidden=4, embedding=5)
    generator = np.random.default_rng(0)
    hyper = Hypernetwork(sizes)
    for parameter in hyper.parameters():
        parameter.data = torch.from_numpy(generator.standard_normal(tuple(parameter.shape)))
    z = generator.standard_normal(5)
    w2, b2, w1, b1 = (p.detach().numpy() for p in hyper.parameters())
    rows = (z @ w2 + b2).reshape(3, 4)
    expected = np.stack([(row @ w1 + b1).reshape(3, 3, 3) for row in rows])
    np.testing.assert_allclose(hyper(torch.from_numpy(z)).detach().numpy(), expected)


def test_a_wide_kernel_is_put_together_from_units_in_their_places():
    hyper = Hypernetwork(Sizes(unit=2, hidden=3, embedding=4))
    for parameter in hyper.parameters():
        nn.init.normal_(parameter)
    conv = GeneratedConv2d(nn.Conv2d(3, 5, 4), hyper)
    nn.init.normal_(conv.embeddings)
    weight = conv.weight()
    assert weight.shape == (5, 3, 4, 4)
    for out in range(5):
        for channel in range(3):
            for row in range(4):
                for column in range(4):
                    place = (out // 2, channel // 2, row // 3, column // 3)
                    unit = hyper(conv.embeddings.unflatten(0, (3, 2, 2, 2))[place])
                    expected = unit[out % 2, channel % 2, row % 3, column % 3]
                    torch.testing.assert_close(weight[out, channel, row, column], expected)


def test_a_shortcut_is_the_mean_of_a_kernel():
    hyper = Hypernetwork(Sizes(unit=2, hidden=3, embedding=4))
    for parameter in hyper.parameters():
        nn.init.normal_(parameter)
    conv = GeneratedConv2d(nn.Conv2d(2, 2, 1, stride=2), hyper)
    nn.init.normal_(conv.embeddings)
    unit = hyper(conv.embeddings[0])
    torch.testing.assert_close(conv.weight()[..., 0, 0], unit.mean((-2, -1)))


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_every_network_has_it_and_cached_inference_is_the_same_bit_by_bit(name, x):
    network = built(name)
    stored = materialised(network)
    assert not any(isinstance(part, Generated | GeneratedConv2d) for part in stored.modules())
    assert count(stored) == count(build(name, 10, SHAPE))
    with torch.no_grad():
        assert torch.equal(network(x), stored(x))
        for parameter in network.hypernetwork.parameters():
            parameter.mul_(2)
        assert not torch.equal(network(x), stored(x))


def test_kernels_start_with_the_variance_of_stored_ones():
    network = build("resnet18", 10, SHAPE, key=3, hypernetwork={})
    for part in network.modules():
        if isinstance(part, GeneratedConv2d):
            out, _, height, width = part.shape
            expected = (2 / (height * width * out)) ** 0.5
            assert part.weight().std().item() == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("sizes", [{}, {"unit": 16, "hidden": 16, "embedding": 16}])
def test_a_step_moves_kernels_about_as_far_as_stored_ones(sizes):
    network, rate = build("resnet18", 10, SHAPE, key=3, hypernetwork=sizes), 1e-4
    part = network.network.get_submodule("layer1.0.conv1")
    before = part.weight()
    slope = torch.randn(before.shape, generator=torch.Generator().manual_seed(0))
    moved = [part.embeddings, *network.hypernetwork.parameters()]
    gradients = torch.autograd.grad((before * slope).sum(), moved)
    with torch.no_grad():
        for parameter, gradient in zip(moved, gradients, strict=True):
            parameter.sub_(rate * gradient)
    step = before.detach() - part.weight().detach()
    gain = (step * slope).sum() / (rate * slope.square().sum())
    assert 0.5 < gain < 5


def test_weights_follow_from_the_key_alone():
    first, second, other = built(key=1), built(key=1), built(key=2)
    for one, same, different in zip(
        first.parameters(), second.parameters(), other.parameters(), strict=True
    ):
        assert torch.equal(one, same)
        assert one.std() == 0 or not torch.equal(one, different)


def test_gradients_of_the_input_can_be_differentiated_by_the_hypernetwork(x):
    network = built()
    x = x.requires_grad_()
    (gradient,) = torch.autograd.grad(network(x).logsumexp(-1).sum(), x, create_graph=True)
    gradient.square().sum().backward()
    for parameter in network.hypernetwork.parameters():
        assert torch.isfinite(parameter.grad).all()
        assert parameter.grad.norm() > 0


def test_under_autocast_kernels_are_generated_in_full_precision():
    conv = next(part for part in built().modules() if isinstance(part, GeneratedConv2d))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(conv.weight(), conv.weight().float())
        inside = conv.weight()
    assert torch.equal(inside, conv.weight())


def test_networks_and_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ModelError, match="nothing to generate"):
        build("mlp", 10, SHAPE, hypernetwork={})
    with pytest.raises(ParameterError, match=r"hypernetwork.unit does not fit"):
        build("resnet20", 10, SHAPE, hypernetwork={"unit": 0})
    with pytest.raises(ParameterError, match=r"hypernetwork.units does not fit"):
        build("resnet20", 10, SHAPE, hypernetwork={"units": 3})
    with pytest.raises(ModelError, match="one size"):
        share([built(shared=True), built(shared=True, unit=4)])


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path, x):
    saved = model()
    loaded = load(save(saved, tmp_path / "net"))
    assert torch.equal(loaded(x), saved(x))
    assert model_identity(loaded) == model_identity(saved)
    assert model_identity(loaded)["code"] is None
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


def shared_members(tmp_path, members=3) -> list[Model]:
    models = [model(key=key, shared=True) for key in range(members)]
    share([one.network for one in models])
    for index, one in enumerate(models):
        save(one, tmp_path / f"member-{index}")
    return models


def test_a_shared_hypernetwork_is_stored_once_and_held_once(tmp_path, x):
    models = shared_members(tmp_path)
    (common,) = (tmp_path / "shared").iterdir()
    own = tmp_path / "member-1.safetensors"
    floats = sum(p.numel() for p in models[0].network.hypernetwork.parameters())
    assert common.stat().st_size > 4 * floats
    assert own.stat().st_size < 4 * count(models[1].network) - 4 * floats + 40_000
    loaded = resolve_all([str(tmp_path)])
    assert len({id(one.network.hypernetwork) for one in loaded}) == 1
    assert count(*loaded) == count(*models)
    for one, other in zip(loaded, models, strict=True):
        assert torch.equal(one(x), other(x))
        assert model_identity(one) == model_identity(other)
    alone = load(tmp_path / "member-2")
    assert model_identity(alone) == model_identity(models[2])
    assert digest_of(Ensemble(loaded).identity()) == digest_of(Ensemble(models).identity())


def test_a_missing_or_changed_shared_file_is_named(tmp_path):
    shared_members(tmp_path)
    (common,) = (tmp_path / "shared").iterdir()
    content = bytearray(common.read_bytes())
    content[-3] ^= 1
    common.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match="not those its card describes"):
        load(tmp_path / "member-0")
    common.unlink()
    with pytest.raises(CheckpointError, match="shares weights with other members"):
        load(tmp_path / "member-0")
    card = tmp_path / "member-0.card.json"
    fields = json.loads(card.read_text()) | {"shared": "../../etc/passwd"}
    card.write_text(json.dumps(fields))
    with pytest.raises(CheckpointError, match="not usable at shared"):
        load(tmp_path / "member-0")


def test_members_that_do_not_share_keep_their_own():
    models = [model(key=key) for key in range(2)]
    assert share([one.network for one in models]) == 0
    assert models[0].network.hypernetwork is not models[1].network.hypernetwork


def test_the_cached_member_is_a_plain_model_that_can_be_saved(tmp_path, x):
    member = model()
    plain = cached(member)
    loaded = load(save(plain, tmp_path / "plain"))
    assert loaded.card.options == {}
    assert model_identity(loaded)["code"] is None
    assert model_identity(loaded) != model_identity(member)
    assert torch.equal(loaded(x), member(x))
    assert cached(plain) is plain


def test_certification_leaves_a_hooked_network_as_it_is(x):
    one = model()
    part = next(m for m in one.network.modules() if isinstance(m, GeneratedConv2d))
    part.register_forward_hook(lambda module, given, output: output * 2)
    logits = MemberBank([one], Layout(), torch.device("cpu")).logits(x)
    torch.testing.assert_close(logits[0], one(x), rtol=1e-3, atol=1e-4)


def test_certification_runs_the_stored_form(x):
    models = [model(key=key) for key in range(2)]
    bank = MemberBank(models, Layout(), torch.device("cpu"))
    logits = bank.logits(x)
    expected = torch.stack([one(x) for one in models])
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-4)
    for _, network in bank._members:
        assert not any(isinstance(part, GeneratedConv2d) for part in network.modules())
