"""The members as they are run compute what the members that were given compute."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from phalanx.ensembles.ensemble import Ensemble
from phalanx.errors import ModelError
from phalanx.models.fold import fold_batchnorm
from phalanx.models.fuse import FusedConv2d, can_fuse
from phalanx.models.model import InputSpec, Model
from phalanx.smoothing.bank import PRECISIONS, Layout, MemberBank

SHAPE, CLASSES = (1, 6, 6), 3
CPU = torch.device("cpu")


def inputs(rows: int = 4) -> Tensor:
    return torch.rand(rows, *SHAPE, generator=torch.Generator().manual_seed(0)) * 3 - 1


def model_of(network: nn.Module, **spec) -> Model:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for part in network.modules():
            if isinstance(part, nn.BatchNorm2d):
                nn.init.uniform_(part.running_mean, -1, 1)
                nn.init.uniform_(part.running_var, 0.5, 2)
    return Model(network.eval(), InputSpec(shape=SHAPE, **spec), CLASSES)


def bank_of(*models: Model, layout: Layout | None = None) -> MemberBank:
    return MemberBank(models, layout or Layout(), CPU)


class Plain(nn.Module):
    """Convolution, BatchNorm, linear layer."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)
        self.relu, self.out = nn.ReLU(), nn.Linear(32, CLASSES)

    def forward(self, x):
        return self.out(self.relu(self.norm(self.conv(x))).flatten(1))


class Overwrites(Plain):
    def forward(self, x):
        return super().forward(x.clamp_(0, 1).mul_(2))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_member_that_writes_to_its_input_disturbs_nobody(precision):
    layout, x = Layout(precision, channels_last=False), inputs()
    writer, reader = model_of(Overwrites()), model_of(Plain())
    alone = bank_of(reader, layout=layout).logits(x)[0]
    together = bank_of(writer, reader, writer, layout=layout).logits(x)
    assert torch.equal(together[1], alone)
    assert torch.equal(together[0], together[2])
    assert torch.equal(x, inputs())
    members = Ensemble([writer, reader]).member_logits(x)
    assert torch.equal(members[1], reader(inputs()))
    assert torch.equal(x, inputs())


class Keeps:
    """A hook that stores a layer's output in its network."""

    def __init__(self, network):
        self.network = network

    def __call__(self, module, inputs, output):
        self.network.kept = output


class ReadsHook(nn.Module):
    """Reads a layer's output past the ReLU that may overwrite it."""

    def __init__(self):
        super().__init__()
        self.first, self.relu, self.out = nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, CLASSES)
        self.first.register_forward_hook(Keeps(self))

    def forward(self, x):
        h = self.relu(self.first(x.flatten(1)))
        return self.out(h + self.kept)


class AsksForTensor(Plain):
    def forward(self, x):
        return super().forward(x * (5.0 if torch.is_tensor(x) else 1.0))


class AsksForType(Plain):
    def forward(self, x):
        return super().forward(x if isinstance(x, Tensor) else -x)


class FailsForStandIn(Plain):
    def forward(self, x):
        return super().forward(x if isinstance(x, Tensor) else x.flatten(1))


class AsksForGradients(Plain):
    def forward(self, x):
        return super().forward(x * 0 + 0.5 if torch.is_grad_enabled() else x)


class Autocasts(Plain):
    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return super().forward(x).float()


@pytest.mark.parametrize(
    "kind",
    [Plain, ReadsHook, AsksForTensor, AsksForType, FailsForStandIn, AsksForGradients, Autocasts],
)
def test_what_makes_members_fast_does_not_change_them(kind):
    model, x = model_of(kind()), inputs()
    with torch.inference_mode():
        expected = model(x)
    torch.testing.assert_close(bank_of(model).logits(x)[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("kind", "kept"), [(Plain, True), (AsksForTensor, False)])
def test_folding_is_kept_where_it_is_the_same_function(kind, kept):
    assert fold_batchnorm(model_of(kind()).network)[1] == 1
    bank = bank_of(model_of(kind()))
    bank.logits(inputs())
    norms = [part for part in bank._members[0][1].modules() if isinstance(part, nn.BatchNorm2d)]
    assert bool(norms) is not kept


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_layers_are_fused_in_what_is_run(precision):
    bank = bank_of(model_of(Plain()), layout=Layout(precision))
    bank.logits(inputs())
    kinds = [type(part) for part in bank._members[0][1].modules()]
    assert (FusedConv2d in kinds) is can_fuse(CPU, PRECISIONS[precision])
    bank = bank_of(model_of(Plain()), layout=Layout(precision, fuse=False))
    bank.logits(inputs())
    assert not any(isinstance(part, FusedConv2d) for part in bank._members[0][1].modules())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_fused_layers_that_hide_nan_are_not_run(monkeypatch, precision):
    """As oneDNN's plain fused ReLU does."""
    fused_forward = FusedConv2d.forward

    def hiding(self, x, shortcut=None):
        return fused_forward(self, x, shortcut).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)

    monkeypatch.setattr(FusedConv2d, "forward", hiding)
    bank = bank_of(model_of(Plain()), layout=Layout(precision))
    x = inputs()
    x[1] = torch.nan
    assert torch.isfinite(bank.logits(x)[0]).all(dim=1).tolist() == [True, False, True, True]
    assert not any(isinstance(part, FusedConv2d) for part in bank._members[0][1].modules())


def test_buffers_are_reused_in_what_is_run():
    model = model_of(Plain())
    bank = bank_of(model, layout=Layout(fuse=False))
    bank.logits(inputs())
    assert bank._members[0][1].relu.inplace
    assert not model.network.relu.inplace


class Flipped(Model):
    def forward(self, x):
        return super().forward(x).flip(-1)


class Rescaled(Model):
    def normalise(self, x):
        return 2 * super().normalise(x)


def hooked() -> Model:
    model = model_of(Plain())
    model.register_forward_hook(lambda module, inputs, output: output.flip(-1))
    return model


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: Flipped(Plain().eval(), InputSpec(), CLASSES), "has forward of its own"),
        (lambda: Rescaled(Plain().eval(), InputSpec(), CLASSES), "has normalise of its own"),
        (hooked, "has hooks of its own"),
    ],
)
def test_a_model_that_is_more_than_its_network_is_refused(make, what):
    with pytest.raises(ModelError, match=what):
        bank_of(make())


def test_a_copy_that_is_another_function_is_refused():
    network = Plain()
    network.scale = nn.Parameter(torch.ones(1))
    scaled = lambda module, inputs, output: output * network.scale  # noqa: E731
    network.register_forward_hook(scaled)
    model = model_of(network)
    torch.testing.assert_close(bank_of(model).logits(inputs())[0], model(inputs()))

    class Counts(Plain):
        def __deepcopy__(self, memo):
            return Plain().eval()

    with pytest.raises(ModelError, match="a copy of Counts gives other logits"):
        bank_of(model_of(Counts())).logits(inputs())


def test_settings_of_the_process_do_not_reach_the_members():
    model, x = model_of(Plain()), inputs()
    expected = bank_of(model).logits(x)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(bank_of(model).logits(x), expected)
    finally:
        torch.set_float32_matmul_precision(before)
