"""The shipped studies: every step of every scale is a command that could run."""

import pytest

from phalanx.errors import ConfigurationError, ParameterError
from phalanx.reporting.published import figures
from phalanx.studies.results import classifiers, published
from phalanx.studies.steps import Setting, changes_of, chosen, scale_of, steps
from phalanx.studies.study import load_study, study_names
from phalanx.training.shelf import load_recipe


@pytest.fixture(params=study_names())
def study(request):
    return load_study(request.param)


@pytest.fixture(autouse=True)
def images(monkeypatch):
    monkeypatch.setattr(Setting, "images", property(lambda self: (20, self.scale.images or 500)))


def test_the_promised_studies_are_there():
    wanted = {f"{kind}-{data}" for kind in ("drt", "smoothing", "ensembles") for data in
              ("mnist", "cifar10", "imagenet")}  # fmt: skip
    others = {"leaderboard-mnist", "red-audit", "red-audit-cifar10"}
    assert wanted | others == set(study_names())


@pytest.mark.parametrize("scale", ["smoke", "small", "full"])
def test_every_step_names_what_an_earlier_one_makes(study, scale, tmp_path):
    setting = Setting(study, scale_of(study, scale), tmp_path, seeds=range(2))
    made = set()
    for step in steps(setting):
        words = list(step.words)
        out = words[words.index("--out") + 1]
        if words[0] == "train":
            made.add(out)
        else:
            model = words[1].partition("/weights/")[0].removesuffix("/pretrain")
            assert model in made
        assert not step.done()
    assert len(made) == 2 * sum(len(study.levels(name)) for name in study.trainings)


def test_every_recipe_fits_at_every_scale(study):
    for name, training in study.trainings.items():
        for sigma in study.levels(name):
            for scale in study.scales.values():
                recipe = load_recipe(training.recipe, changes_of(training, sigma, 3, scale))
                assert (recipe.sigma, recipe.seed) == (sigma, 3)
                assert recipe.data.name == study.data
                if (epochs := scale.epochs_at(training.cost)) is not None:
                    assert recipe.epochs == epochs


def test_every_ensemble_has_its_members_and_every_first_stage_exists(study):
    for method in study.methods.values():
        training = study.trainings[method.training]
        sigma, scale = study.levels(method.training)[0], study.scales["smoke"]
        recipe = load_recipe(training.recipe, changes_of(training, sigma, 0, scale))
        members = method.members or recipe.members
        assert members <= recipe.members
        assert (members > 1) == bool(method.reducers or study.audit)
        assert method.stage is None or recipe.pretrain is not None


def test_every_published_name_is_that_of_a_figure(study, tmp_path):
    setting = Setting(study, study.scales["smoke"], tmp_path)
    for name, method in study.methods.items():
        for classifier in method.published:
            assert classifier in classifiers(method)
            levels = [*study.levels_of(name), None]
            assert any(published(setting, method, classifier, sigma) for sigma in levels)


def test_the_figures_of_a_noise_level_stand_beside_it(tmp_path):
    study = load_study("smoothing-mnist")
    setting = Setting(study, study.scales["small"], tmp_path)
    method = setting.study.methods["consistency"]
    found = {sigma: published(setting, method, "model", sigma).acr for sigma in (0.25, 0.5, 1.0)}
    assert found == {0.25: 0.928, 0.5: 1.655, 1.0: 1.738}


def test_drt_stands_beside_its_own_table(tmp_path):
    study = load_study("drt-cifar10")
    setting = Setting(study, study.scales["small"], tmp_path)
    curve = published(setting, study.methods["gaussian"], "member", None)
    assert curve.certified[1.0] == 0.231
    assert len({c.source for c in figures("cifar10", None) if c.training == curve.training}) > 1


def test_a_step_schedule_is_drawn_together_with_the_epochs():
    study = load_study("smoothing-cifar10")
    changes = changes_of(study.trainings["gaussian"], 0.25, 0, study.scales["small"])
    assert "schedule.step_epochs=10" in changes
    assert "epochs=30" in changes


def test_a_budget_gives_every_training_about_equal_compute():
    study = load_study("smoothing-mnist")
    scale = scale_of(study, "full", ["budget=90", "images=500"])
    assert (scale.epochs, scale.budget, scale.images, scale.n) == (None, 90, 500, 100_000)
    epochs = {}
    for name, training in study.trainings.items():
        recipe = load_recipe(training.recipe, changes_of(training, 0.5, 0, scale))
        epochs[name] = recipe.epochs
        assert 0.5 * 90 <= recipe.epochs * training.cost <= 90
        assert recipe.schedule.warmup_epochs == pytest.approx(recipe.epochs / 20)
    assert epochs["gaussian"] == 90
    assert epochs["consistency"] == 45
    macer = load_recipe("mnist-macer", changes_of(study.trainings["macer"], 0.5, 0, scale))
    assert macer.loss.defer_epochs == pytest.approx(5 * 7 / 20)
    adversary = changes_of(study.trainings["smoothadv"], 0.5, 0, scale)
    assert "loss.adversary.warmup_epochs=0.3" in adversary


@pytest.mark.parametrize("change", ["epochs=0", "epoch=3", "n=many"])
def test_a_change_that_a_scale_does_not_have_is_refused(change):
    with pytest.raises(ConfigurationError, match="the scale does not fit"):
        scale_of(load_study("drt-mnist"), "small", [change])


def test_a_part_of_a_study_brings_what_it_is_beside():
    part = chosen(load_study("smoothing-mnist"), [0.5], ["macer"])
    assert list(part.methods) == ["gaussian", "macer"]
    assert {name: part.levels(name) for name in part.trainings} == {
        "gaussian": (0.5,),
        "macer": (0.5,),
    }
    elsewhere = chosen(load_study("smoothing-mnist"), [0.25], None)
    assert elsewhere.levels("macer") == ()


@pytest.mark.parametrize(
    ("sigmas", "methods", "what"),
    [([0.3], None, "sigma 0.3"), (None, ["mcaer"], "method 'mcaer'")],
)
def test_an_unknown_part_is_refused(sigmas, methods, what):
    with pytest.raises(ParameterError, match=what):
        chosen(load_study("smoothing-mnist"), sigmas, methods)


def test_an_unknown_study_or_scale_is_refused():
    with pytest.raises(ConfigurationError, match="phalanx list studies"):
        load_study("smoothing-minst")
    with pytest.raises(ParameterError, match="no scale"):
        scale_of(load_study("drt-mnist"), "medium")
