"""DRT and its control against closed forms; gradients against differences of these."""

import numpy as np
import pytest
import torch
from losses_helpers import batch, convolutional, smooth
from losses_oracle import check, loss_gradients, margins, parameters, trained

from phalanx.errors import ConfigurationError, ParameterError
from phalanx.losses import build_loss

SIGMA = 0.3


def seen(given, draws):
    noisy = [given.x + SIGMA * given.noise(i) for i in range(draws)]
    x = torch.cat(noisy).flatten(1).double().numpy()
    return x, np.tile(given.y.numpy(), draws)


def terms(own, x, y, form, control):
    """Length term and margin term, in plain loops."""
    each = [margins(one, x, y) for one in own]
    groups = [(i,) for i in range(len(own))]
    if not control:
        groups = [(i, j) for i in range(len(own)) for j in range(i + 1, len(own))]
    lengths, sums, count = [], [], 0
    for row in range(len(y)):
        for group in groups:
            if all(each[i][0][row] > 0 for i in group):
                squared = (sum(each[i][1][row] for i in group) ** 2).sum()
                lengths.append(squared if form == "code" else np.sqrt(squared))
        for margin, _ in each:
            if margin[row] > 0:
                sums.append(margin[row])
                count += 1
    if form == "code":
        return sum(lengths) / max(len(lengths), 1), sum(sums) / max(count, 1)
    return sum(lengths) / len(y), sum(sums) / len(y)


@pytest.mark.parametrize("form", ["paper", "code"])
@pytest.mark.parametrize(
    ("name", "option"), [("drt", "gradient_diversity"), ("member-gradient-norm", "gradient_norm")]
)
@pytest.mark.parametrize("draws", [1, 2])
def test_it_is_the_formula_and_so_is_its_gradient(form, name, option, draws):
    given, members = batch(12), trained()
    base = {"name": "gaussian"}
    if draws > 1:  # without its own terms: the cross entropy under several noises
        base = {"name": "consistency", "num_noise": draws, "lbd": 0.0, "eta": 0.0}
    options = {"form": form, option: 0.7, "confidence_margin": 1.3, "base": base}
    output = build_loss(name, {"sigma": SIGMA, **options})(members, given)
    x, y = seen(given, draws)
    control = name != "drt"

    def formula(own):
        length, margin = terms(own, x, y, form, control)
        base = sum(loss_gradients(one, x, y)[0].mean() for one in own)
        return base + 0.7 * length - 1.3 * margin

    right = [margins(one, x, y)[0] > 0 for one in parameters(members)]
    assert 0 < np.mean(right) < 1
    check(output.loss, members, formula)


def test_the_two_forms_agree_where_everything_counts_once():
    """One pair, all right: the code's mean is the paper's; its norm is the square."""
    given, members = batch(1), [smooth(0), smooth(1)]
    given.y[0] = members[0](given.x).argmax()
    members[1].load_state_dict(members[0].state_dict())
    results = {
        form: build_loss("drt", {"sigma": 0.0, "form": form})(members, given).metrics
        for form in ("paper", "code")
    }
    torch.testing.assert_close(
        results["paper"]["gradient_diversity"] ** 2, results["code"]["gradient_diversity"]
    )
    torch.testing.assert_close(
        results["paper"]["confidence_margin"], 2 * results["code"]["confidence_margin"]
    )


def test_opposite_gradients_cost_nothing_and_equal_ones_twice_the_control():
    given, members = batch(8), trained(2)
    members[1].load_state_dict(members[0].state_dict())
    pair = build_loss("drt", {"sigma": 0.0})(members, given).metrics["gradient_diversity"]
    alone = build_loss("member-gradient-norm", {"sigma": 0.0})(members, given)
    torch.testing.assert_close(pair, alone.metrics["gradient_norm"])  # 2 |g| over 2 members


@pytest.mark.parametrize("form", ["paper", "code"])
def test_members_that_are_always_wrong_add_nothing(form):
    given, member = batch(), smooth()
    given.y.copy_((member(given.x).argmax(-1) + 1) % 3)
    output = build_loss("drt", {"sigma": 0.0, "form": form})([member, member], given)
    assert output.metrics["gradient_diversity"] == 0
    assert output.metrics["confidence_margin"] == 0
    output.loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in member.parameters())


@pytest.mark.parametrize("name", ["drt", "member-gradient-norm", "gal", "trs", "adp"])
@pytest.mark.parametrize(
    "base",
    [
        {"name": "gaussian"},
        {"name": "consistency", "lbd": 3.0},
        {"name": "stability"},
        {"name": "smoothadv", "num_noise": 2, "adversary": {"num_steps": 2}},
    ],
)
def test_with_weights_of_zero_every_member_trains_as_it_would_alone(name, base):
    given, members = batch(), [convolutional(seed).eval() for seed in range(3)]
    loss = build_loss(name, {"sigma": 0.4, "base": base})
    weights = {
        field: 0.0
        for field in type(loss).model_fields
        if field not in {"sigma", "base", "form", "reduction", "smooth_eps", "smooth_steps"}
    }
    output = build_loss(name, {"sigma": 0.4, "base": base, **weights})(members, given)
    options = {key: value for key, value in base.items() if key != "name"}
    alone = build_loss(base["name"], {"sigma": 0.4, **options})
    torch.testing.assert_close(output.loss, sum(alone([m], given).loss for m in members))
    torch.testing.assert_close(
        output.logits, torch.cat([alone([m], given).logits for m in members])
    )


def test_members_share_the_noise():
    given = batch()
    build_loss("drt", {"sigma": 0.4})(trained(), given)
    assert set(given.noise.asked) == {0}


def test_one_member_is_refused():
    with pytest.raises(ParameterError, match="couples members was given one"):
        build_loss("drt", {"sigma": 0.4})([smooth()], batch())


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ({"name": "drt"}, "not a loss of one member"),
        ({"name": "gausian"}, "no loss called 'gausian'"),
        ({"name": "consistency", "num_noise": 1}, r"loss\.base\.num_noise"),
        ({"name": "gaussian", "sigma": 0.2}, r"loss\.base\.sigma is set"),
        ({"colour": 3}, r"loss\.base\.colour"),
    ],
)
def test_a_base_that_does_not_fit_is_refused(base, message):
    with pytest.raises((ConfigurationError, ParameterError), match=message):
        build_loss("drt", {"sigma": 0.4, "base": base})
