"""RED against its closed form; what its two forms and its two kinds of examples are."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from losses_helpers import batch, seeded
from losses_oracle import check, loss_gradients, trained

from phalanx.losses import build_loss


def quiet(given):
    return replace(given, noise=lambda _: torch.zeros_like(given.x))


def formula_of(x, y, form):
    def formula(own):
        each = [loss_gradients(one, x, y) for one in own]
        aligned = [
            np.abs((a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)).mean()
            for (_, a), (_, b) in combinations(each, 2)
        ]
        scale = len(y) if form == "paper-batch-mean" else 1
        lengths = [2 * ((g / scale) ** 2).sum(-1).mean() for _, g in each]
        base = sum(loss.mean() for loss, _ in each)
        return base + 0.8 * np.mean(aligned) + 0.3 * sum(lengths) / len(own)

    return formula


@pytest.mark.parametrize("form", ["per-sample", "paper-batch-mean"])
def test_red_is_the_published_formula(form):
    given, members = batch(12), trained()
    options = {"similarity": 0.8, "lipschitz": 0.3, "form": form}
    output = build_loss("red", {"sigma": 0.0, **options})(members, given)
    x, y = given.x.flatten(1).double().numpy(), given.y.numpy()
    check(output.loss, members, formula_of(x, y, form))


def test_terms_that_are_deferred_count_from_the_epoch_on_that_begins_then():
    given, members = batch(12), trained()
    always, later = (
        build_loss("red", {"sigma": 0.0, "lipschitz": 1.0, "defer_epochs": epochs})
        for epochs in (0, 1.5)
    )
    base = sum(build_loss("gaussian", {"sigma": 0.0})([m], given).loss for m in members)
    for progress, counts in ((0.0, False), (1.9, False), (2.0, True)):
        now = replace(given, progress=progress)
        expected = always(members, now).loss if counts else base
        assert later(members, now).loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_half_adversarial_is_the_same_formula_at_the_moved_images():
    given, members = batch(12), trained()
    options = {"similarity": 0.8, "lipschitz": 0.3, "examples": "half-adversarial"}
    loss = build_loss("red", {"sigma": 0.0, **options})
    with torch.random.fork_rng():
        torch.manual_seed(11)
        moved = loss.half_moved(members, given)
    output = seeded(loss, members, given)
    x, y = moved.flatten(1).double().numpy(), given.y.numpy()
    check(output.loss, members, formula_of(x, y, "per-sample"))


def test_the_penalty_stays_when_the_batch_is_doubled_and_the_legacy_one_does_not():
    given, members = batch(6), trained()
    twice = replace(given, x=given.x.repeat(2, 1, 1, 1), y=given.y.repeat(2))
    for form, factor in (("per-sample", 1), ("paper-batch-mean", 4)):
        loss = build_loss("red", {"sigma": 0.0, "form": form})
        once, double = (loss(members, quiet(each)) for each in (given, twice))
        for name, times in (("gradient_length", factor), ("gradient_cosine", 1)):
            torch.testing.assert_close(once.metrics[name], times * double.metrics[name])
        if factor == 1:
            torch.testing.assert_close(once.loss, double.loss)


def test_the_clean_form_is_trs_without_its_ball():
    given, members = batch(9), trained()
    red = build_loss("red", {"sigma": 0.2})(members, given)
    trs = build_loss("trs", {"sigma": 0.2})(members, given)
    torch.testing.assert_close(red.loss, trs.loss)


@pytest.mark.parametrize("rows", [2, 7, 12])
def test_the_second_half_is_moved_against_all_members_and_the_first_is_not(rows):
    given, members = batch(rows), trained()
    loss = build_loss("red", {"sigma": 0.0, "examples": "half-adversarial"})
    with torch.random.fork_rng():
        torch.manual_seed(5)
        moved = loss.half_moved(members, given)
    first = rows // 2
    assert torch.equal(moved[:first], given.x[:first])
    move = moved[first:] - given.x[first:]
    assert move.abs().max() <= 0.03 + 1e-7
    assert move.abs().max() > 0.02
    assert moved.min() >= 0
    assert moved.max() <= 1

    def likelihood(x):
        mean = torch.stack([member(x).softmax(-1) for member in members]).mean(0)
        return mean.gather(1, given.y[:, None]).sum()

    assert likelihood(moved) < likelihood(given.x)


def test_it_stands_on_adversarial_bases():
    given, members = batch(8), trained()
    for base in ("adversarial", "trades"):
        loss = build_loss("red", {"sigma": 0.0, "base": {"name": base}})
        output = seeded(loss, members, given)
        output.loss.backward()
        assert torch.isfinite(output.loss)
        assert output.metrics["gradient_cosine"] <= 1
