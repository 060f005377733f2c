"""``phalanx weigh``: learned weights for a weighted ensemble of fixed members (SWEEN)."""

from __future__ import annotations

from typing import Annotated

import typer

from phalanx.cli import options as opt
from phalanx.cli.console import answer, answer_json, images_bar
from phalanx.cli.declaring import Declaration, declaring


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(name="weigh")(declaring(weigh))


def weigh(
    models: opt.Models,
    data: opt.Data = "digits",
    data_dir: opt.DataDir = None,
    sigma: Annotated[
        str | None, typer.Option(help="noise level in input units; default: the cards'")
    ] = None,
    samples: Annotated[int, typer.Option(help="noise draws per image")] = 16,
    split: Annotated[
        str, typer.Option(help="images to learn on: train, or test if none of them is certified")
    ] = "train",
    limit: opt.Limit = 1000,
    every: opt.Every = 1,
    seed: opt.Seed = 0,
    device: opt.Device = "auto",
    allow_sigma_mismatch: Annotated[
        bool, typer.Option("--allow-sigma-mismatch", help="learn at another sigma or noise")
    ] = False,
    json: opt.Json = False,
    *,
    said: Declaration,
) -> None:
    """Learn how much each member shall count under noise (SWEEN), for --reducer weighted:..."""
    from phalanx.data.locate import load
    from phalanx.diagnostics.weights import learn_weights
    from phalanx.ensembles.ensemble import Ensemble
    from phalanx.runtime.device import resolve_device

    members, level = opt.gaussian_members(models, said, sigma, allow_mismatch=allow_sigma_mismatch)
    dataset = load(data, data_dir, split)
    indices = dataset.select(every=every, limit=limit)
    ensemble = Ensemble(members).to(resolve_device(device))
    with images_bar("weights") as advance:
        found = learn_weights(
            ensemble, dataset, indices, level, samples, seed=seed, progress=advance
        )
    if json:
        answer_json(found.as_dict())
        return
    answer(
        f"log loss under noise {level:g} on {found.images} images of {split}, {samples} draws each:"
        f" {found.loss:.4f}; at equal weights {found.loss_equal:.4f}, of the best member"
        f" {found.loss_best_member:.4f}"
    )
    answer(f"--reducer {found.reducer}")
