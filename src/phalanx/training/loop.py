"""The training loop of members that are trained together (mostly: of one member)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from phalanx.data.dataset import Dataset
from phalanx.errors import DataError, Interrupted, TrainingError
from phalanx.losses import Batch, LossOutput
from phalanx.models import checkpoint
from phalanx.models.build import build
from phalanx.models.hypernetwork import share
from phalanx.models.model import InputSpec, Model, ModelCard
from phalanx.models.recompute import recompute_blocks
from phalanx.noise.distributions import HasOrder
from phalanx.runtime.keys import noise_key
from phalanx.training.batches import FlipCrop, Keys, StepNoise, epoch_order
from phalanx.training.distributed import Team, share_batchnorm
from phalanx.training.events import EpochEnd, Members, Step, Watch
from phalanx.training.folder import TrainingFolder
from phalanx.training.optimizers import make_optimizer, set_learning_rate
from phalanx.training.passes import Eager, passes
from phalanx.training.recipe import Recipe
from phalanx.training.schedules import learning_rate_factor
from phalanx.training.state import TrainingState, read_state, write_state

SAVE_SECONDS = 60.0
EVENT_SECONDS = 0.5
CHECK_STEPS = 20


@dataclass(frozen=True)
class Setting:
    """Where and how a loop runs.

    Attributes:
        device: of this process.
        precision: ``fp32`` or ``bf16``.
        team: the processes that share each step.
        start: folder of members whose weights these begin with; None: fresh ones.
        state: file to resume from and to write to.
        stopped: asked between steps; once it says so the loop saves and ends.
    """

    device: torch.device
    precision: str
    team: Team
    start: TrainingFolder | None
    state: Path
    stopped: Callable[[], bool]


class TrainingLoop:
    """Trains ``members`` of ``recipe`` from where their state file stands.

    Args:
        recipe: what to train.
        members: indices of the members this loop trains.
        dataset: labelled training data.
        setting: see `Setting`.
        watch: told every half second and at the end of every epoch.

    Raises:
        DataError: the data have no labels or no classes, or a batch too small to share.
    """

    def __init__(
        self, recipe: Recipe, members: Members, dataset: Dataset, setting: Setting, watch: Watch
    ) -> None:
        self.recipe, self.members, self.dataset = recipe, members, dataset
        self.setting, self.watch = setting, watch
        self.steps = -(-len(dataset) // recipe.batch)
        self.keys = Keys(recipe.seed, ",".join(map(str, members)))
        _check_shares(len(dataset), recipe, setting.team.world)
        self.models = [
            share_batchnorm(self._first(member), setting.team, setting.device.type)
            for member in members
        ]
        share([model.network for model in self.models])
        self.module = nn.ModuleList(self.models)
        self.module.to(setting.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = make_optimizer(recipe.optimizer, self.module.parameters())
        eager = Eager(recipe.loss.build(), self.models, setting.device, setting.precision)
        # A step in parts, or with blocks computed again, is not one that a GPU could record.
        whole = recipe.accumulate == 1 and not recipe.checkpoint_activations
        self.passes = passes(eager, recipe.batch, alone=whole and setting.team.world == 1)
        self.state = TrainingState()
        self._saved_at = self._told_at = time.monotonic()

    def run(self) -> list[Model]:
        """Train to the last epoch; the members, in evaluation mode.

        Raises:
            TrainingError: the loss is not finite; the last good state is kept.
            Interrupted: `Setting.stopped` said so; the state is saved.
            StorageError, CheckpointError: the state could not be written or read.
        """
        self._resume()
        self.module.train()
        devices = [self.setting.device] if self.setting.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            while self.state.epoch < self.recipe.epochs:
                self._epoch()
        self.module.eval()
        return self.models

    def _first(self, member: int) -> Model:
        """A member before its first step."""
        fresh = new_member(self.recipe, member, self.dataset)
        if self.recipe.checkpoint_activations:
            recompute_blocks(fresh, self.recipe.model.name)
        if self.setting.start:
            trained = checkpoint.load(self.setting.start.weights(member))
            fresh.load_state_dict(trained.state_dict())
        return fresh

    def _epoch(self) -> None:
        started = time.monotonic() - self.state.seconds
        order = epoch_order(self.keys, len(self.dataset), self.state.epoch)
        while self.state.step < self.steps:
            first = self.state.step * self.recipe.batch
            self._step(order[first : first + self.recipe.batch])
            self.state.seconds = time.monotonic() - started
            self._after_step()
        self._check_finite()
        self._finish_epoch()
        self._save()

    def _step(self, indices: Any) -> None:
        """One step on the images ``indices`` of the whole team."""
        state, team, recipe = self.state, self.setting.team, self.recipe
        rate = learning_rate_factor(recipe.schedule, recipe.epochs, self._progress(0.5))
        set_learning_rate(self.optimizer, recipe.optimizer.lr * rate)
        kept: dict[int, Tensor] | None = {} if recipe.accumulate > 1 else None
        for number, part in enumerate(team.parts(recipe.accumulate)):
            batch = self._batch(indices, part.rows(len(indices)), kept)
            # Dropout and some losses draw from torch's generator: every step seeds it anew.
            torch.manual_seed(self.keys("dropout", state.epoch, state.step, part.rank) % 2**63)
            output = self.passes(batch, len(batch.y) / len(indices), add=number > 0)
            self._count(output, batch.y)
        team.sum_gradients(self.module.parameters())
        self.optimizer.step()
        state.step += 1

    def _batch(self, indices: Any, rows: slice, kept: dict[int, Tensor] | None) -> Batch:
        device, state = self.setting.device, self.state
        x = self.dataset.images(indices[rows])
        if self.recipe.data.augment == "flip-crop":
            generator = self.keys.generator("augment", state.epoch, state.step)
            x = FlipCrop.draw(generator, len(indices), rows)(x)
        if x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        x, y = to_device(x, device), to_device(self.dataset.labels(indices[rows]), device)
        law = self.recipe.noise.build()
        noise = StepNoise(self.keys, state.epoch, state.step, rows, len(indices), x, law, kept)
        return Batch(x, y, noise, self._progress(0.0), self.dataset.card.value_range)

    def _progress(self, offset: float) -> float:
        """Epochs done ``offset`` steps after the beginning of the current step."""
        return self.state.epoch + (self.state.step + offset) / self.steps

    def _count(self, output: LossOutput, y: Tensor) -> None:
        """Add a step to the epoch's sums, without waiting for the device."""
        state, rows = self.state, len(y)
        state.sums = state.sums.to(y.device)
        state.sums[0] += output.loss * rows
        state.sums[1] += (output.logits.argmax(-1) == y).sum()
        state.sums[2] += rows * len(output.logits)
        for name, value in output.metrics.items():
            total = state.extra.get(name, torch.zeros((), dtype=torch.float64)).to(y.device)
            state.extra[name] = total + value * rows

    def _after_step(self) -> None:
        """Check, save, stop and tell, where it is time to; a team decides together."""
        state, team = self.state, self.setting.team
        checks = state.step % CHECK_STEPS == 0
        if checks or team.world == 1:
            stopped = team.any(self.setting.stopped(), self.setting.device)
            due = team.any(time.monotonic() - self._saved_at > SAVE_SECONDS, self.setting.device)
            if checks or stopped or due:
                self._check_finite()
            if stopped or due:
                self._save()
            if stopped:
                raise Interrupted(
                    f"member {_named(self.members)} stopped in epoch {state.epoch + 1} of"
                    f" {self.recipe.epochs}",
                    repair="the same command with the same --out continues there",
                )
        if time.monotonic() - self._told_at > EVENT_SECONDS:
            self._tell()

    def _tell(self) -> None:
        self._told_at = time.monotonic()
        loss, right, predictions = self.state.sums.tolist()
        images = predictions / len(self.members)
        done = self.state.epoch * self.steps + self.state.step
        total = self.recipe.epochs * self.steps
        self.watch(Step(self.members, done, total, loss / images, right / predictions))

    def _check_finite(self) -> None:
        """Refuse to go on, or to overwrite the last good state, with a broken network."""
        loss_is_finite = math.isfinite(self.state.sums[0].item())
        broken = not (loss_is_finite and _all_finite(self.module.parameters()))
        if self.setting.team.any(broken, self.setting.device):
            raise TrainingError(
                f"training of member {_named(self.members)} diverged in epoch"
                f" {self.state.epoch + 1}: {'weights are' if loss_is_finite else 'the loss is'}"
                " not finite",
                why="the last good state is kept",
                repair="--set optimizer.lr=... (smaller) or --set precision=fp32, with another"
                " --out",
            )

    def _finish_epoch(self) -> None:
        state, team = self.state, self.setting.team
        loss, right, predictions = team.sum(state.sums).tolist()
        images = predictions / len(self.members)
        row = {
            "members": list(self.members),
            "epoch": state.epoch + 1,
            "loss": loss / images,
            "noisy_accuracy": right / predictions,
            **{name: team.sum(total).item() / images for name, total in state.extra.items()},
            "lr": self.optimizer.param_groups[0]["lr"],
            "seconds": round(state.seconds, 3),
        }
        self.state = TrainingState(epoch=state.epoch + 1, history=[*state.history, row])
        self.watch(EpochEnd(self.members, row, self.recipe.epochs))

    def _save(self) -> None:
        if self.setting.team.leads:
            weights, optimizer = self.module.state_dict(), self.optimizer.state_dict()
            write_state(self.setting.state, self.state, weights, optimizer)
        self._saved_at = time.monotonic()

    def _resume(self) -> None:
        self.setting.team.wait()
        if not self.setting.state.exists():
            return
        self.state, weights, optimizer = read_state(self.setting.state)
        self.module.load_state_dict(weights)
        self.optimizer.load_state_dict(optimizer)
        for row in self.state.history:
            self.watch(EpochEnd(self.members, row, self.recipe.epochs, replayed=True))


def new_member(recipe: Recipe, member: int, dataset: Dataset) -> Model:
    """A member before its first step: weights drawn from a key of its own, in training mode.

    Where the data's card names no number of classes, it is the largest label plus one.

    Raises:
        DataError: the data have no labels.
    """
    card, part = dataset.card, recipe.model
    if not dataset.labelled:
        raise DataError(f"data set {card.name!r} cannot be trained on", why="it has no labels")
    classes = card.classes or int(dataset.labels(range(len(dataset))).max()) + 1
    key = noise_key("train", recipe.seed, str(member), "initialisation")
    network = build(part.name, classes, card.shape, key=key, **part.options)
    inputs = InputSpec(card.value_range, part.mean, part.std, card.shape)
    name = f"{recipe.name}-{member}"
    said = ModelCard(
        name,
        part.name,
        dict(part.options),
        recipe.sigma,
        noise=recipe.noise.name if recipe.sigma else None,
        order=_order(recipe, prod(card.shape)) if recipe.sigma else None,
    )
    return Model(network, inputs, classes, said)


def _order(recipe: Recipe, dimension: int) -> int | None:
    """Of the noise, where it has one; refused where there is none of it in so many dimensions."""
    law = recipe.noise.build()
    return law.order_in(dimension) if isinstance(law, HasOrder) else None


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy without waiting for what the device is doing: it needs memory that stays in place."""
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def _all_finite(parameters: Iterable[nn.Parameter]) -> bool:
    norms = torch._foreach_norm([parameter.detach() for parameter in parameters])
    return bool(torch.isfinite(torch.stack(norms)).all())


def _check_shares(images: int, recipe: Recipe, world: int) -> None:
    smallest = images % recipe.batch or recipe.batch
    parts = world * recipe.accumulate
    if smallest < parts:
        shared = f"{world} processes" if recipe.accumulate == 1 else f"{parts} parts"
        raise DataError(
            f"the smallest batch has {smallest} images for {shared}",
            why="every one of them needs at least one",
            repair="--set batch=... so that the last batch of an epoch is larger, or"
            " --set accumulate=... for fewer parts",
        )


def _named(members: Members) -> str:
    return ", ".join(map(str, members))
