import pytest

from phalanx.errors import ConfigurationError
from phalanx.training.recipe import Recipe
from phalanx.training.shelf import LARGEST_FILE, load_recipe, make_recipe, recipe_names


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_is_valid_and_described(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert len(recipe.description) > 40
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe


def test_the_promised_recipes_ship():
    assert set(recipe_names()) >= {
        "mnist-gaussian",
        "digits-gaussian",
        "cifar10-resnet20-gaussian",
        "cifar10-resnet110-gaussian",
        "imagenet-resnet50-gaussian",
    }


def test_values_are_typed_and_nested():
    changes = ["loss.sigma=1", "optimizer.lr=1e-2", "model.options.hidden=[8, 8]", "epochs=3"]
    recipe = load_recipe("digits-gaussian", changes)
    assert recipe.sigma == 1.0
    assert recipe.optimizer.lr == 0.01
    assert recipe.model.options == {"hidden": [8, 8]}
    assert recipe.epochs == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("epochs=0", r"epochs: .*greater than or equal to 1"),
        ("epochs=many", "epochs"),
        ("optimizer.name=lion", r"optimizer.name: .*'sgd', 'adam' or 'adamw'"),
        ("optimizer.rate=1", r"optimizer.rate is not a field .*lr, momentum"),
        ("speed=9", r"speed is not a field .*epochs, batch"),
        ("precision=fp16", "'auto', 'fp32' or 'bf16'"),
        ("data.augment=mixup", "'none' or 'flip-crop'"),
        ("loss.sigma=-1", "loss.sigma"),
        ("loss.colour=1", "loss.colour"),
        ("loss.name=unknown", "gaussian"),
        ("noise.name=white", "no noise called 'white'"),
        ("noise.level=2", r"noise.level is not a field .*order"),
        ("noise.order=3", "order of 3 and gaussian noise"),
        ("noise={name: generalised-gaussian, order: -1}", "order is -1"),
        ("model.mean=[0.5]", "1 means and 0 standard deviations"),
        ("seed=-1", "seed"),
        ("epochs.fast=1", "epochs has no fields"),
        ("epochs", "sets nothing"),
        ("=3", "sets nothing"),
        ("data={", "not readable YAML"),
    ],
)
def test_a_change_that_does_not_fit_is_named(change, message):
    with pytest.raises(ConfigurationError, match=message):
        load_recipe("digits-gaussian", [change])


def test_an_unknown_recipe_lists_the_known_ones():
    with pytest.raises(ConfigurationError, match="digits-gaussian"):
        load_recipe("digits")


def test_a_file_is_a_recipe(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "data: {name: digits}\nmodel: {name: mlp}\nloss: {name: gaussian, sigma: 0.5}\nepochs: 1\n"
    )
    assert load_recipe(file).name == "mine"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a [1, 2]\nb: *a\n", "aliases"),
        ("epochs: 1\nepochs: 2\n", "twice"),
        ("!!python/object/apply:os.system ['true']\n", "not readable YAML"),
        ("- 1\n- 2\n", "not a mapping"),
        ("[" * 5000, "not readable YAML"),
        ("# " + "x" * LARGEST_FILE, "larger than"),
    ],
)
def test_hostile_files_are_refused(tmp_path, text, message):
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        load_recipe(file)


def test_a_binary_file_is_refused(tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ConfigurationError):
        load_recipe(file)


def test_members_of_an_uncoupled_loss_train_alone():
    recipe = load_recipe("digits-gaussian", ["members=3"])
    assert recipe.groups() == [(0,), (1,), (2,)]


def test_members_of_a_coupled_loss_train_together_and_there_are_several():
    loss = "loss={name: drt, sigma: 0.25, base: {name: consistency}}"
    changes = [loss, "loss.base.lbd=3", "members=3"]
    recipe = load_recipe("digits-gaussian", changes)
    assert recipe.groups() == [(0, 1, 2)]
    assert recipe.sigma == 0.25
    assert recipe.loss.build().base["lbd"] == 3
    with pytest.raises(ConfigurationError, match="members is 1, but the loss 'drt' couples"):
        load_recipe("digits-gaussian", [*changes, "members=1"])
    with pytest.raises(ConfigurationError, match=r"loss\.base\.lbd does not fit"):
        load_recipe("digits-gaussian", [*changes, "loss.base.lbd=-1"])


def test_missing_fields_are_named():
    with pytest.raises(ConfigurationError, match="data: field required"):
        make_recipe({"model": {"name": "mlp"}, "loss": {"name": "gaussian", "sigma": 1}})
