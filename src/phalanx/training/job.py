"""One job: train a group of members to the end and save their checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from phalanx.data.dataset import Dataset
from phalanx.data.locate import load
from phalanx.models import checkpoint
from phalanx.models.model import Model
from phalanx.training.accuracy import heldout_accuracy, heldout_data
from phalanx.training.distributed import Team
from phalanx.training.events import EpochEnd, Members, Saved, Watch
from phalanx.training.folder import TrainingFolder, group_name
from phalanx.training.loop import Setting, TrainingLoop
from phalanx.training.placement import Placement
from phalanx.training.recipe import Recipe


@dataclass(frozen=True)
class Job:
    """Everything a process needs to train some members; plain values that can be sent to it.

    Attributes:
        recipe: what to train.
        members: which of its members, together.
        folder: the run.
        placement: device, arithmetic and threads.
        data_dir: where the data set is looked for, see `phalanx.data.locate`.
        team: the processes that share each step.
        first: what is trained before, into a folder of its own; members begin where it ends.
    """

    recipe: Recipe
    members: Members
    folder: TrainingFolder
    placement: Placement
    data_dir: Path | None
    team: Team
    first: Job | None = None

    def on_worker(self, worker: int) -> Job:
        """This job on the device of one worker."""
        return replace(
            self, placement=replace(self.placement, device=self.placement.device_of(worker))
        )

    @property
    def done(self) -> bool:
        """Whether every member is saved."""
        return self.folder.has(self.members)


def run_job(job: Job, watch: Watch, stopped: Callable[[], bool]) -> None:
    """Train, save, and tell; members that are already saved are only told of."""
    if job.done:
        _retell(job, watch)
        return
    held = job.folder.held(group_name(job.members)) if job.team.leads else nullcontext()
    with held, _threads(job.placement.threads):
        device = torch.device(job.placement.device)
        state = job.folder.state(job.members)
        start = job.first.folder if job.first else None
        setting = Setting(device, job.placement.precision, job.team, start, state, stopped)
        dataset = load(job.recipe.data.name, job.data_dir, "train")
        heldout = heldout_data(job.recipe.data.name, job.data_dir, dataset)
        loop = TrainingLoop(job.recipe, job.members, dataset, setting, watch)
        models = loop.run()
        if job.team.leads:
            _save(job, models, loop, heldout)
            state.unlink(missing_ok=True)
        job.team.wait()
    watch(Saved(job.members))


def _save(job: Job, models: Sequence[Model], loop: TrainingLoop, heldout: Dataset | None) -> None:
    recipe = job.recipe
    for member, trained in zip(job.members, models, strict=True):
        model = trained.cpu()
        extra = {
            "recipe": recipe.model_dump(mode="json"),
            "precision": job.placement.precision,
            "data": loop.dataset.card.as_dict(),
            "member": member,
            "history": loop.state.history,
        }
        if heldout is not None:
            extra["heldout"] = heldout_accuracy(
                model, heldout, recipe.sigma, recipe.seed, recipe.noise.build()
            )
        model.card = replace(model.card, extra=extra)
        checkpoint.save(model, job.folder.weights(member))


def _retell(job: Job, watch: Watch) -> None:
    card = checkpoint.read_card(checkpoint.card_path(job.folder.weights(job.members[0]))).card
    for row in card.extra.get("history", []):
        watch(EpochEnd(job.members, row, job.recipe.epochs, replayed=True))
    watch(Saved(job.members))


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """How many threads torch uses decides how sums are rounded, so a run keeps its number."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
