"""`train`: from a recipe to trained members in a run folder."""

from __future__ import annotations

import shlex
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from phalanx.data.locate import load
from phalanx.errors import CollapsedMember, ConfigurationError, SlowArithmetic
from phalanx.models import checkpoint
from phalanx.models.hypernetwork import share_equal
from phalanx.models.model import Model
from phalanx.runs.provenance import environment, utc_now
from phalanx.runs.schema import Manifest
from phalanx.runtime.device import cores, describe_device
from phalanx.training.accuracy import said_of_collapse
from phalanx.training.distributed import joined_team, local_processes, under_torchrun
from phalanx.training.events import Event, Watch, ignore
from phalanx.training.folder import KIND, LOG, TrainingFolder, TrainingLog, open_run
from phalanx.training.job import Job
from phalanx.training.loop import new_member
from phalanx.training.members import train_members
from phalanx.training.placement import Placement, place, resolve_precision, threads_each
from phalanx.training.recipe import Recipe


def train(
    recipe: Recipe,
    *,
    out: Path | str | None = None,
    data_dir: Path | None = None,
    device: str = "auto",
    workers: int | None = None,
    watch: Watch = ignore,
) -> list[Model]:
    """Train the members of a recipe, or continue where an earlier call was stopped.

    Args:
        recipe: see `phalanx.training.shelf.load_recipe`.
        out: run folder; None trains in a temporary one and keeps nothing on disk.
        data_dir: where the data set is looked for, see `phalanx.data.locate`.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``.
        workers: processes that train members side by side; None: one a core or GPU. More than
            one starts Python anew, so a script needs its ``if __name__ == "__main__"``.
        watch: told of progress, see `phalanx.training.events`.

    Returns:
        The members in order, on the CPU, in evaluation mode.

    Raises:
        ConfigurationError: ``out`` holds a training of another recipe or other data.
        DataError: the data are not here or have no labels.
        TrainingError: a member diverged or its process died; the others are kept.
        Interrupted: Ctrl-C; calling again continues.

    Warns:
        CollapsedMember: a member gives one class to everything; it is saved all the same.
        SlowArithmetic: the run was begun in bf16, which this device only emulates.
    """
    if out is None:
        if under_torchrun():
            raise ConfigurationError(
                "torchrun needs a folder all processes see", repair="--out DIR"
            )
        with TemporaryDirectory(prefix="phalanx-") as temporary:
            return train(
                recipe,
                out=temporary,
                data_dir=data_dir,
                device=device,
                workers=workers,
                watch=watch,
            )
    folder = TrainingFolder(Path(out))
    with joined_team(place(device, recipe.precision, 1, workers).device) as (team, own_device):

        def job(stage: Recipe, folder: TrainingFolder) -> Job:
            placement = place(device, stage.precision, len(stage.groups()), workers)
            if team.world > 1:
                threads = threads_each(local_processes())
                placement = replace(placement, device=own_device, workers=1, threads=threads)
            return Job(stage, (), folder, placement, data_dir, team)

        before = recipe.first()
        first = job(before, folder.first()) if before else None
        _train_in(replace(job(recipe, folder), first=first), watch)
    return _trained(folder, recipe.members)


def _trained(folder: TrainingFolder, members: int) -> list[Model]:
    """The members that were saved; one that collapsed is warned of."""
    models = [checkpoint.load(folder.weights(member)) for member in range(members)]
    share_equal([model.network for model in models])
    for line in said_of_collapse(models):
        warnings.warn(line, CollapsedMember, stacklevel=3)
    return models


def plan_training(
    recipe: Recipe, data_dir: Path | None, device: str, workers: int | None
) -> dict[str, Any]:
    """What `train` would do, as plain facts, without doing it."""
    dataset = load(recipe.data.name, data_dir, "train")
    placement = place(device, recipe.precision, len(recipe.groups()), workers)
    parameters = sum(p.numel() for p in new_member(recipe, 0, dataset).parameters())
    first = recipe.first()
    before = {"pretrain_epochs": first.epochs} if first else {}
    return {
        "recipe": recipe.name,
        "sigma": recipe.sigma,
        **({"noise": recipe.noise.name} if recipe.sigma else {}),
        "members": recipe.members,
        "parameters_each": parameters,
        "images": len(dataset),
        **before,
        "epochs": recipe.epochs,
        "steps_each": recipe.epochs * -(-len(dataset) // recipe.batch),
        "device": placement.device,
        "precision": placement.precision,
        "workers": placement.workers,
        "threads": placement.threads,
    }


def _train_in(job: Job, watch: Watch) -> None:
    """Train every group; ``job`` says what they have in common."""
    if not job.team.leads:
        job.team.wait()  # until the leader has opened the run
        _train_first(job, ignore)
        _train_groups(job, ignore)
        return
    job.folder.make()
    with job.folder.held(LOG):
        log = TrainingLog(job.folder.path / f"{LOG}.jsonl")

        def tell(event: Event) -> None:
            log(event)
            watch(event)

        open_run(job.folder.path, _manifest(job))
        job.team.wait()
        _train_first(job, watch)
        _train_groups(job, tell)


def _train_first(job: Job, watch: Watch) -> None:
    if job.first:
        _train_in(job.first, watch)


def _train_groups(job: Job, watch: Watch) -> None:
    stored = open_run(job.folder.path, _manifest(job))
    placement = replace(
        job.placement, precision=stored.config["precision"], threads=stored.config["threads"]
    )
    if not job.folder.has(range(job.recipe.members)):
        _warn_if_slow(placement)
    jobs = [replace(job, members=group, placement=placement) for group in job.recipe.groups()]
    # Threads that share a core wait for one another: a run that began with more of them has fewer
    # processes.
    workers, threads = placement.workers, placement.threads
    if placement.device == "cpu" and threads > 1:
        workers = max(1, min(workers, cores() // threads))
    train_members(jobs, workers, watch)


def _warn_if_slow(placement: Placement) -> None:
    """A run keeps its arithmetic wherever it goes on, even where that is emulated."""
    if placement.precision == "bf16" and resolve_precision("auto", placement.device) == "fp32":
        warnings.warn(
            "this training computes in bf16, which this device only emulates, many times slower"
            " than fp32; with --set precision=fp32 it begins anew in another folder",
            SlowArithmetic,
            stacklevel=2,
        )


def _manifest(job: Job) -> Manifest:
    """What decides the weights, bit by bit, and what is good to know beside it."""
    recipe, placement = job.recipe, job.placement
    dataset = load(recipe.data.name, job.data_dir, "train")
    return Manifest(
        kind=KIND,
        command=shlex.join(sys.argv),
        config={
            "recipe": recipe.as_dict(),
            "precision": placement.precision,
            "threads": placement.threads,
        },
        classifiers=(),
        data=dataset.card.as_dict(),
        environment={
            **environment(),
            "device": describe_device(torch.device(placement.device)),
            "workers": placement.workers,
            "world": job.team.world,
        },
        created=utc_now(),
    )
