"""Our models as those of foolbox and ART, where they are installed."""

from __future__ import annotations

import warnings

import pytest
import torch
from attacks_helpers import SHAPE, network, points

import phalanx
from phalanx.attacks.bridges import imported
from phalanx.attacks.bridges.art import art_classifier
from phalanx.attacks.bridges.foolbox import foolbox_model
from phalanx.errors import MissingDependencyError, ModelError


def _or_skip(module: str):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(module)


def test_foolbox_attacks_our_models_about_as_well_as_we_do() -> None:
    foolbox = _or_skip("foolbox")
    model = network()
    x, y = points(model, 60)
    attack = foolbox.attacks.LinfPGD(steps=20, rel_stepsize=0.1, random_start=True)
    torch.manual_seed(0)
    _, inputs, theirs = attack(foolbox_model(model), x, y, epsilons=0.05)
    ours = phalanx.attack(model, x, y, attack="pgd", eps=0.05, steps=20, step=0.1)
    assert abs(float(theirs.float().mean()) - float(ours.success.float().mean())) <= 0.05
    threat = ours.threat
    assert threat.contains(x, inputs).all()


def test_art_sees_our_models() -> None:
    _or_skip("art.estimators.classification")
    model = network()
    x, y = points(model, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        classifier = art_classifier(model, SHAPE)
        scores = classifier.predict(x.numpy())
    assert (torch.from_numpy(scores).argmax(1) == y).all()
    assert tuple(classifier.clip_values) == model.inputs.range
    with pytest.raises(ModelError, match="shape"):
        art_classifier(model)


def test_what_is_not_installed_is_named() -> None:
    with pytest.raises(MissingDependencyError, match=r"phalanx\[attacks\]"):
        imported("absent_package", "an absent package")
