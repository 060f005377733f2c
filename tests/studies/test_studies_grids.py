"""Grids: networks by trainings by ways of certifying them."""

import json

import pytest
from pydantic import ValidationError

from phalanx.errors import ConfigurationError, ParameterError
from phalanx.models.build import lay_out
from phalanx.reporting.published.deterministic import cell
from phalanx.studies.carry_out import RESULT, carry_out
from phalanx.studies.grids.grid import (
    SMOOTHING,
    Grid,
    grid_names,
    grid_scale,
    load_grid,
    part_of,
)
from phalanx.studies.grids.results import grid_figures, published
from phalanx.studies.grids.steps import GridSetting, entries, grid_steps, recipe_changes
from phalanx.studies.grids.tables import grid_tables
from phalanx.studies.undertakings import of_grid
from phalanx.training.shelf import load_recipe

TINY = Grid.model_validate(
    {
        "name": "tiny",
        "description": "Two ways on one network.",
        "data": "digits",
        "networks": {"small": {"model": {"name": "mlp", "options": {"hidden": [8]}}}},
        "trainings": {
            "plain": {"recipe": "digits-plain", "at": {"linf": ["1/100"], "l2": [0.05]}},
            "noisy": {"recipe": "digits-gaussian", "sigma": 0.25, "at": {"linf": [0.01]}},
        },
        "methods": {
            "interval": {"method": "interval", "norms": ["linf"]},
            "crown": {"method": "crown", "published": ["CROWN"]},
            "smoothing": {"method": SMOOTHING},
        },
        "scales": {"smoke": {"epochs": 2, "images": 3, "n": 100}},
    }
)


@pytest.fixture(params=grid_names())
def grid(request):
    return load_grid(request.param)


@pytest.fixture(autouse=True)
def images(monkeypatch):
    if_few = property(lambda self: (2, self.scale.images or 500))
    monkeypatch.setattr(GridSetting, "images", if_few)


def test_from_data_to_table(tmp_path, command):
    setting = GridSetting(TINY, TINY.scales["smoke"], tmp_path, words=("--device", "cpu"))
    carry_out(grid_steps(setting), lambda text: None, lambda words: command(*words)[0])
    assert all(step.done() for step in grid_steps(setting))
    found = {(f.entry.training, f.entry.method, f.entry.norm, f.entry.eps): f
             for f in grid_figures(setting)}  # fmt: skip
    assert set(found) == {
        ("plain", "interval", "linf", 0.01), ("plain", "interval", "linf", None),
        ("plain", "crown", "linf", 0.01), ("plain", "crown", "linf", None),
        ("plain", "crown", "l2", 0.05), ("plain", "crown", "l2", None),
        ("noisy", "smoothing", "linf", 0.01),
    }  # fmt: skip
    crown = found["plain", "crown", "linf", 0.01]
    assert crown.certified >= found["plain", "interval", "linf", 0.01].certified
    assert crown.certified <= crown.clean - crown.falsified
    radii = [found["plain", name, "linf", None].radius for name in ("interval", "crown")]
    assert 0 < radii[0] <= radii[1]

    values, texts = of_grid(setting).told()
    assert json.loads((tmp_path / RESULT).read_text()) == json.loads(json.dumps(values))
    whole = "\n".join(texts)
    for said in ("tiny, plain, linf 0.01", "average certified radius", "Which approach is better"):
        assert said in whole


def test_every_recipe_fits_at_every_scale(grid, tmp_path):
    for name in grid.scales:
        scale = grid_scale(grid, name)
        setting = GridSetting(part_of(grid, scale.networks), scale, tmp_path)
        for network in setting.grid.networks:
            for training in grid.trainings:
                recipe = load_recipe(
                    grid.trainings[training].recipe, recipe_changes(setting, network, training)
                )
                assert (recipe.members, recipe.data.name) == (1, grid.data)
                assert recipe.sigma == grid.trainings[training].sigma
        steps = grid_steps(setting)
        assert len({step.makes for step in steps}) == len(steps)
        asked = {entry.method for entry in entries(setting)}
        assert asked == set(grid.methods)


@pytest.mark.parametrize(
    ("network", "parameters"),
    [
        ("fcnn-a", 16_330), ("fcnn-b", 99_710), ("cnn-a", 166_406),
        ("cnn-b", 833_786), ("cnn-c", 1_974_762), ("cnn-d", 13_314_634),
    ],
)  # fmt: skip
def test_networks_have_the_published_sizes(network, parameters):
    model = load_grid("lecture-map").networks[network].model
    built = lay_out(model["name"], 10, (1, 28, 28), **model.get("options", {}))
    assert sum(p.numel() for p in built.parameters()) == parameters


def test_a_grid_like_another_one_says_what_differs():
    whole, other = load_grid("sok-mnist"), load_grid("sok-cifar10")
    assert (other.networks, other.methods) == (whole.networks, whole.methods)
    assert set(other.trainings) == {"clean", "adv2", "adv8", "cadv2", "cadv8"}
    assert other.trainings["clean"].at["linf"] == (0.5 / 255,)
    assert load_grid("lecture-map").trainings["adv3"] == whole.trainings["adv3"]
    assert "fcnn-c" not in load_grid("lecture-map").networks


@pytest.mark.parametrize(
    ("grid", "pixels"), [("sok-mnist", (1, 28, 28)), ("sok-cifar10", (3, 32, 32))]
)
def test_the_benchmark_has_the_published_sizes_and_figures(grid, pixels):
    sizes = {"fcnn-c": {1: 7_111_690, 3: 9_454_602}, "fcnn-a": {1: 16_330, 3: 62_090}}
    whole = load_grid(grid)
    for network, known in sizes.items():
        model = whole.networks[network].model
        built = lay_out(model["name"], 10, pixels, **model.get("options", {}))
        assert sum(p.numel() for p in built.parameters()) == known[pixels[0]]
    for method in whole.methods.values():
        for network in whole.networks.values():
            for training in whole.trainings.values():
                found = [
                    cell(whole.data, network.published, training.published, name)
                    for name in method.published
                ]
                assert None not in found


def test_a_published_figure_stands_beside_its_own_radius_alone(grid, tmp_path):
    setting = GridSetting(grid, grid.scales["full"], tmp_path)
    beside = [
        (entry, known)
        for entry in entries(setting)
        if (known := published(setting, entry, grid.methods[entry.method].published))
    ]
    assert all(e.eps is None or abs(e.eps - known.eps) < 1e-9 for e, known in beside)
    # Every network that was certified elsewhere at the radius of one of ours stands beside it.
    for name, training in grid.trainings.items():
        radii = {e.eps for e, _ in beside if e.training == name}
        asked = set(training.at.get("linf", ()))
        assert not training.published or len(radii & asked) == 1


def test_the_same_computation_is_run_once(tmp_path):
    grid = load_grid("sok-mnist")
    setting = GridSetting(part_of(grid, ["fcnn-a"], ["clean"]), grid.scales["smoke"], tmp_path)
    said = " ".join(step.says for step in grid_steps(setting))
    assert "by crown," in said
    assert "deeppoly" not in said
    runs = {entry.method: setting.run(entry) for entry in entries(setting)}
    assert runs["deeppoly"] == runs["crown"]
    wrong = {**TINY.model_dump(), "methods": {
        "a": {"method": "crown"}, "b": {"method": "interval", "runs_as": "a"},
    }}  # fmt: skip
    with pytest.raises(ValueError, match="'b' is not the same computation as 'a'"):
        Grid.model_validate(wrong)


def test_a_limit_of_seconds_is_the_scales(tmp_path):
    grid = load_grid("sok-mnist")
    part = part_of(grid, ["fcnn-a"], ["clean"], ["milp", "crown"])
    steps = grid_steps(GridSetting(part, grid.scales["smoke"], tmp_path))
    words = {step.says: " ".join(step.words) for step in steps}
    assert [("seconds=5" in said) for name, said in words.items() if "milp" in name] == [True]
    assert not any("seconds=" in said for name, said in words.items() if "crown" in name)


def test_no_cell_of_a_table_is_silently_empty(tmp_path, command):
    methods = {
        **TINY.model_dump()["methods"],
        "zonotope": {"method": "zonotope", "networks": ["b"]},
    }
    both = {"small": TINY.networks["small"], "b": TINY.networks["small"]}
    tiny = Grid.model_validate({**TINY.model_dump(), "networks": both, "methods": methods})
    part = GridSetting(part_of(tiny, ["small"]), tiny.scales["smoke"], tmp_path)
    first = [step for step in grid_steps(part) if "train small, plain" in step.says]
    first += [step for step in grid_steps(part) if "plain, by crown, linf 0.01" in step.says]
    carry_out(first, lambda text: None, lambda words: command(*words)[0])
    setting = GridSetting(tiny, tiny.scales["smoke"], tmp_path)
    (table, *_) = grid_tables(setting, grid_figures(setting))
    cells = {row[0].text: [one.text for one in row[1:]] for row in table.rows}
    assert cells["interval"] == ["not run", "-", "not run", "-"]
    assert cells["zonotope"] == ["left out", "-", "not run", "-"]
    assert cells["crown"][2] == "not run"
    assert "Left out: for a larger machine, or networks of another kind." in table.note


def test_searches_and_trainings_are_left_out_network_by_network(tmp_path):
    networks = dict.fromkeys(("a", "b"), TINY.networks["small"])
    training = next(iter(TINY.trainings))
    methods = {
        "crown": {"method": "crown", "radii": ["a"]},
        "interval": {"method": "interval", "radii": False, "left_out": [["b", training]]},
    }
    fields = {**TINY.model_dump(), "networks": networks, "methods": methods}
    tiny = Grid.model_validate(fields)
    scale = tiny.scales["smoke"].model_copy(update={"radii": True})
    found = {
        (one.method, one.network, one.eps is None)
        for one in entries(GridSetting(tiny, scale, tmp_path))
        if one.training == training
    }
    fixed = {("crown", "a", False), ("crown", "b", False), ("interval", "a", False)}
    assert found == {*fixed, ("crown", "a", True)}
    for wrong in (
        {"left_out": [["c", training]]},
        {"left_out": [["a", "never"]]},
        {"radii": ["c"]},
        {"networks": ["c"]},
    ):
        bad = {**fields, "methods": {"crown": {"method": "crown", **wrong}}}
        with pytest.raises(ValidationError, match=r"there is no (network 'c'|training 'never')"):
            Grid.model_validate(bad)


def test_parts_and_scales_that_are_not_there_are_refused():
    grid = load_grid("lecture-map")
    with pytest.raises(ParameterError, match="no method 'magic'"):
        part_of(grid, methods=["magic"])
    with pytest.raises(ParameterError, match="no scale"):
        grid_scale(grid, "huge")
    with pytest.raises(ConfigurationError, match="does not fit"):
        grid_scale(grid, "smoke", ["images=0"])
    assert grid_scale(grid, "smoke", ["images=7"]).images == 7
    assert list(part_of(grid, ["cnn-b"]).networks) == ["cnn-b"]


def test_options_of_the_other_kind_are_refused(command):
    code, _, said = command("reproduce", "lecture-map", "--sigma", "0.5")
    assert (code, "--sigma with lecture-map" in said) == (2, True)
    code, _, said = command("reproduce", "drt-mnist", "--network", "cnn-a")
    assert (code, "--network with drt-mnist" in said) == (2, True)
