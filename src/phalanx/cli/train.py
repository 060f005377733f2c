"""``phalanx train``: members from a recipe, in a run folder."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phalanx.cli import options as opt
from phalanx.cli.console import answer, answer_json, answer_table, log
from phalanx.errors import CollapsedMember

if TYPE_CHECKING:
    from phalanx.models.model import Model
    from phalanx.training.recipe import Recipe


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(name="train")(train)


def train(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="a shipped recipe (list recipes) or a YAML file")
    ],
    *,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="change a field, as loss.sigma=0.5; repeat")
    ] = None,
    data_dir: opt.DataDir = None,
    out: opt.Out = None,
    members: Annotated[int | None, typer.Option(help="networks to train")] = None,
    epochs: Annotated[int | None, typer.Option(help="passes over the training images")] = None,
    seed: Annotated[int | None, typer.Option(help="seed of every random number")] = None,
    workers: Annotated[
        int | None, typer.Option(help="members trained side by side; default: one a core or GPU")
    ] = None,
    device: opt.Device = "auto",
    plan: Annotated[
        bool, typer.Option("--plan", help="what would be trained, without training")
    ] = False,
    json: opt.Json = False,
) -> None:
    """Train the members of a recipe, or continue where the same command was stopped.

    The folder it writes is a MODEL of the other commands. Under torchrun each step is shared
    by the processes; give them one --out.
    """
    from phalanx.training.shelf import load_recipe

    options = {"members": members, "epochs": epochs, "seed": seed}
    asked = [f"{name}={value}" for name, value in options.items() if value is not None]
    chosen = load_recipe(recipe, [*(overrides or ()), *asked])
    if plan:
        _plan(chosen, data_dir, device, workers, json=json)
        return
    from phalanx.cli.training_view import TrainingView
    from phalanx.runs.provenance import new_run_folder
    from phalanx.training.accuracy import said_of_collapse
    from phalanx.training.distributed import own_rank, under_torchrun
    from phalanx.training.trainer import train as train_recipe

    if out is None and not under_torchrun():
        out = new_run_folder(chosen.name)
        log(f"training in {out}")
    with TrainingView() as view, warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapsedMember)  # said below, when all are trained
        warnings.showwarning = _say
        models = train_recipe(
            chosen, out=out, data_dir=data_dir, device=device, workers=workers, watch=view
        )
    if own_rank() == 0:
        for line in said_of_collapse(models):
            log(f"warning: {line}")
        _answer(chosen, models, out, json=json)
        log(str(out))


def _say(message: Warning | str, *_: Any, **__: Any) -> None:
    """A warning in the command's own voice, without a line of code."""
    log(f"warning: {message}")


def _answer(recipe: Recipe, models: list[Model], out: Path | None, *, json: bool) -> None:
    heldout = [model.card.extra.get("heldout", {}) for model in models]
    if json:
        members = [
            {"member": index, "digest": model.card.digest, **accuracy}
            for index, (model, accuracy) in enumerate(zip(models, heldout, strict=True))
        ]
        answer_json({"run": str(out), "sigma": recipe.sigma, "members": members})
        return
    columns = {"clean accuracy": "clean_accuracy"}
    if recipe.sigma:
        columns["under noise"] = "noisy_accuracy"
    rows = [
        [f"member-{index}", *(_shown(accuracy.get(key)) for key in columns.values())]
        for index, accuracy in enumerate(heldout)
    ]
    images = heldout[0].get("images", "no")
    noise = f"sigma {recipe.sigma:g}" if recipe.sigma else "trained without noise"
    title = f"{recipe.name}, {noise}, {images} test images"
    answer_table(title, ["member", *columns], rows)


def _shown(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.4f}"


def _plan(
    recipe: Recipe, data_dir: Path | None, device: str, workers: int | None, *, json: bool
) -> None:
    from phalanx.training.trainer import plan_training

    facts: dict[str, Any] = plan_training(recipe, data_dir, device, workers)
    if json:
        answer_json(facts)
        return
    for name, value in facts.items():
        answer(f"{name.replace('_', ' ')}: {value}")
