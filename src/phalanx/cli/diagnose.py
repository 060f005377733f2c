"""``phalanx diagnose``: are the members different enough to be worth their cost?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phalanx.cli import options as opt
from phalanx.cli.console import answer, answer_json, images_bar, log
from phalanx.cli.declaring import Declaration, declaring

if TYPE_CHECKING:
    from phalanx.diagnostics.attach import Diagnosis
    from phalanx.reporting.shares import Shares


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(name="diagnose")(declaring(diagnose))


def diagnose(
    models: opt.Models,
    data: opt.Data = "digits",
    data_dir: opt.DataDir = None,
    sigma: Annotated[
        str | None, typer.Option(help="noise level in input units; default: the cards'")
    ] = None,
    samples: Annotated[int, typer.Option(help="noise draws per image for correlation")] = 1000,
    gradient_samples: Annotated[
        int, typer.Option(help="noise draws per image for DRT's conditions; 0 leaves them out")
    ] = 200,
    transfer_samples: Annotated[
        int, typer.Option(help="noise draws of a decision under attack; 0 attacks nobody")
    ] = 64,
    transfer_eps: Annotated[
        str | None, typer.Option(help="l2 radius of the attacks [2 sigma]")
    ] = None,
    reducer: Annotated[
        str, typer.Option(help="weights of DRT's weighted ensemble, such as weighted:1,2,1")
    ] = "weighted",
    alpha: Annotated[float, typer.Option(help="failure probability of a radius")] = 0.001,
    limit: opt.Limit = 100,
    every: opt.Every = 1,
    seed: opt.Seed = 0,
    device: opt.Device = "auto",
    allow_sigma_mismatch: Annotated[
        bool, typer.Option("--allow-sigma-mismatch", help="diagnose at another sigma or noise")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="run folder whose report shall show this, or a folder for the JSON"),
    ] = None,
    json: opt.Json = False,
    *,
    said: Declaration,
) -> None:
    """Correlation of an ensemble's members, the radii it predicts, and DRT's conditions."""
    from phalanx.data.locate import load
    from phalanx.diagnostics.attach import Diagnosis, keep
    from phalanx.diagnostics.measure import report
    from phalanx.diagnostics.theory import conditions
    from phalanx.diagnostics.transfer import transfer
    from phalanx.ensembles.ensemble import Ensemble
    from phalanx.runtime.device import resolve_device

    members, level = opt.gaussian_members(models, said, sigma, allow_mismatch=allow_sigma_mismatch)
    dataset = load(data, data_dir)
    indices = dataset.select(every=every, limit=limit)
    ensemble = Ensemble(members, reducer).to(resolve_device(device))
    looked = (ensemble, dataset, indices, level)
    with images_bar("correlation") as advance:
        found = report(*looked, samples, seed=seed, alpha=alpha, progress=advance)
    theory = moved = None
    if gradient_samples:
        with images_bar("conditions") as advance:
            theory = conditions(*looked, gradient_samples, seed=seed, progress=advance)
    if transfer_samples and dataset.labelled:
        eps = 2 * level if transfer_eps is None else opt.number(transfer_eps)
        with images_bar("transfer") as advance:
            moved = transfer(*looked, transfer_samples, eps=eps, seed=seed, progress=advance)
    diagnosis = Diagnosis(found, theory, moved)
    _say(diagnosis, _stored_shares(out), json=json)
    if out is not None:
        log(str(keep(diagnosis, members, dataset.card.name, out)))


def _say(diagnosis: Diagnosis, shares: Shares | None, *, json: bool) -> None:
    if json:
        stored = {} if shares is None else {"stored_shares": shares.as_dicts()}
        answer_json({**diagnosis.as_note(), **stored})
    else:
        texts = [diagnosis.table(), *([shares.table().text()] if shares is not None else [])]
        answer("\n\n".join(texts))


def _stored_shares(out: Path | None) -> Shares | None:
    """Distribution of n_A / n of every classifier, where ``out`` is a run with counts."""
    from phalanx.reporting.shares import shares_of
    from phalanx.runs.store import RunStore

    if out is None or not (out / "run.json").is_file():
        return None
    with RunStore.open(out) as store:
        return shares_of(store)
