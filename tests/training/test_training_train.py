import json
import math
import os
import signal
import threading
import time

import pytest
import torch

from phalanx.errors import (
    CheckpointError,
    CollapsedMember,
    ConfigurationError,
    DataError,
    Interrupted,
    ParameterError,
    RunError,
    SlowArithmetic,
    StorageError,
    TrainingError,
)
from phalanx.models import checkpoint
from phalanx.training import loop
from phalanx.training.events import EpochEnd, Saved, Step
from phalanx.training.folder import TrainingFolder
from phalanx.training.members import stop_on_interrupt
from phalanx.training.shelf import load_recipe
from phalanx.training.trainer import plan_training, train


def digests(models):
    return [model.card.digest for model in models]


class Stop:
    """A watch that presses Ctrl-C at the n-th event of one kind."""

    def __init__(self, kind, count):
        self.kind, self.left = kind, count

    def __call__(self, event):
        self.left -= isinstance(event, self.kind)
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def eager(monkeypatch):
    """Save and tell after every step."""
    monkeypatch.setattr(loop, "SAVE_SECONDS", -1.0)
    monkeypatch.setattr(loop, "EVENT_SECONDS", -1.0)


def test_a_run_folder_holds_everything(tiny, tmp_path):
    events = []
    models = train(tiny, out=tmp_path, workers=1, watch=events.append)
    assert [model.card.name for model in models] == ["digits-gaussian-0", "digits-gaussian-1"]
    assert all(model.sigma == tiny.sigma and not model.training for model in models)
    again = checkpoint.load(tmp_path / "weights" / "member-1")
    assert again.card == models[1].card
    extra = again.card.extra
    assert extra["recipe"] == tiny.model_dump(mode="json")
    assert extra["member"] == 1
    assert extra["data"]["checksums"]
    assert extra["heldout"]["noisy_accuracy"] > 0.3

    manifest = json.loads((tmp_path / "run.json").read_text())
    assert manifest["kind"] == "train"
    assert manifest["config"]["precision"] == "fp32"
    rows = [json.loads(line) for line in (tmp_path / "training.jsonl").read_text().splitlines()]
    assert [(row["members"], row["epoch"]) for row in rows] == [
        ([member], epoch) for member in (0, 1) for epoch in (1, 2, 3)
    ]
    assert rows[2]["loss"] < rows[0]["loss"]
    assert all(0 < row["noisy_accuracy"] < 1 and row["seconds"] > 0 for row in rows)
    assert [event.members for event in events if isinstance(event, Saved)] == [(0,), (1,)]
    assert not list((tmp_path / "state").glob("*.pt"))


def test_the_same_recipe_gives_the_same_bits_and_members_differ(tiny):
    first, second = train(tiny, workers=1), train(tiny, workers=1)
    assert digests(first) == digests(second)
    assert len(set(digests(first))) == 2
    other = train(load_recipe_with_seed(tiny, 6), workers=1)
    assert not set(digests(other)) & set(digests(first))


def load_recipe_with_seed(recipe, seed):
    return recipe.model_copy(update={"seed": seed})


def test_members_side_by_side_equal_members_in_turn(tiny, tmp_path):
    events, threads = [], torch.get_num_threads()
    together = train(tiny, out=tmp_path, workers=2, watch=events.append)
    assert digests(together) == digests(train(tiny, workers=1))
    assert torch.get_num_threads() == threads
    rows = [event.row["epoch"] for event in events if isinstance(event, EpochEnd)]
    assert sorted(rows) == [1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize(("kind", "count"), [(Step, 1), (Step, 30), (EpochEnd, 2), (EpochEnd, 5)])
def test_an_interrupted_training_continues_bit_identically(tiny, tmp_path, eager, kind, count):
    whole = train(tiny, workers=1)
    with pytest.raises(Interrupted):
        train(tiny, out=tmp_path, workers=1, watch=Stop(kind, count))
    replayed = []
    resumed = train(tiny, out=tmp_path, workers=1, watch=replayed.append)
    assert digests(resumed) == digests(whole)
    losses = [[row["loss"] for row in model.card.extra["history"]] for model in (*whole, *resumed)]
    assert losses[:2] == losses[2:]
    assert len((tmp_path / "training.jsonl").read_text().splitlines()) == 6


@pytest.mark.parametrize("name", ["adam", pytest.param("adamw", marks=pytest.mark.slow)])
def test_other_optimizers_resume_too(tiny, tmp_path, eager, name):
    optimizer = tiny.optimizer.model_copy(update={"name": name, "lr": 0.01})
    recipe = tiny.model_copy(update={"optimizer": optimizer, "members": 1})
    with pytest.raises(Interrupted):
        train(recipe, out=tmp_path, watch=Stop(Step, 30))
    assert digests(train(recipe, out=tmp_path)) == digests(train(recipe))


def test_networks_with_batchnorm_resume(tmp_path, eager):
    changes = ["model={name: resnet20}", "members=1", "epochs=1", "batch=480"]
    recipe = load_recipe("digits-gaussian", changes)
    with pytest.raises(Interrupted):
        train(recipe, out=tmp_path, watch=Stop(Step, 2))
    assert digests(train(recipe, out=tmp_path)) == digests(train(recipe))


def test_a_finished_run_is_only_told_again(tiny, tmp_path):
    first = train(tiny, out=tmp_path, workers=1)
    (tmp_path / "training.jsonl").unlink()
    events = []
    assert digests(train(tiny, out=tmp_path, workers=1, watch=events.append)) == digests(first)
    assert all(event.replayed for event in events if isinstance(event, EpochEnd))
    assert len((tmp_path / "training.jsonl").read_text().splitlines()) == 6


def test_a_changed_recipe_is_refused_with_the_difference(tiny, tmp_path):
    train(tiny, out=tmp_path, workers=1)
    changed = load_recipe_with_seed(tiny, 9)
    with pytest.raises(ConfigurationError, match=r"config.recipe.seed: 5 -> 9"):
        train(changed, out=tmp_path, workers=1)


def test_a_folder_of_something_else_is_refused(tiny, tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(RunError, match=r"thesis.tex"):
        train(tiny, out=tmp_path, workers=1)


def test_precision_and_threads_stay_as_they_began(tiny, tmp_path):
    recipe = tiny.model_copy(update={"precision": "auto", "members": 1})
    train(recipe, out=tmp_path, workers=1)
    file = tmp_path / "run.json"
    manifest = json.loads(file.read_text())
    manifest["config"]["threads"] = 1
    manifest["config"]["precision"] = "fp32"
    file.write_text(json.dumps(manifest))
    for path in (tmp_path / "weights").iterdir():
        path.unlink()
    [model] = train(recipe, out=tmp_path, workers=1)
    assert model.card.extra["precision"] == "fp32"


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_divergence_names_the_member_and_keeps_the_last_good_state(tiny, tmp_path, workers):
    optimizer = tiny.optimizer.model_copy(update={"lr": 1e30})
    schedule = tiny.schedule.model_copy(update={"name": "step", "warmup_epochs": 0})
    recipe = tiny.model_copy(update={"optimizer": optimizer, "schedule": schedule})
    with pytest.raises(TrainingError, match=r"member 0 diverged .*1 more failed.*optimizer.lr"):
        train(recipe, out=tmp_path, workers=workers)
    assert not list((tmp_path / "weights").iterdir())


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize(("rate", "collapsed"), [(0.1, []), (30.0, ["member 0", "member 1"])])
def test_a_member_that_collapsed_is_named_and_kept(tiny, rate, collapsed, recwarn):
    """At an absurd rate every unit dies and one bias decides."""
    optimizer = tiny.optimizer.model_copy(update={"lr": rate})
    models = train(tiny.model_copy(update={"optimizer": optimizer}), workers=1)
    said = [str(warning.message) for warning in recwarn if warning.category is CollapsedMember]
    assert len(models) == 2
    assert [line.partition(" has collapsed: 100%")[0] for line in said] == collapsed


def test_one_failing_member_does_not_stop_the_others(tiny, tmp_path):
    folder = TrainingFolder(tmp_path)
    with pytest.raises(Interrupted):
        train(tiny, out=tmp_path, workers=1, watch=Stop(EpochEnd, 1))
    folder.state((0,)).write_bytes(b"not a state")
    with pytest.raises(CheckpointError, match=r"member-0.pt cannot be .*damaged.*delete this"):
        train(tiny, out=tmp_path, workers=1)
    assert folder.weights(1).is_file()
    assert not folder.weights(0).is_file()
    folder.state((0,)).unlink()
    assert digests(train(tiny, out=tmp_path, workers=1)) == digests(train(tiny, workers=1))


def test_a_state_that_would_run_code_is_refused(tiny, tmp_path):
    class Attack:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "owned"),))

    with pytest.raises(Interrupted):
        train(tiny, out=tmp_path, workers=1, watch=Stop(EpochEnd, 1))
    torch.save({"format": 1, "state": Attack()}, TrainingFolder(tmp_path).state((0,)))
    with pytest.raises(CheckpointError):
        train(tiny, out=tmp_path, workers=1)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("name", ["training", "member-0"])
def test_nothing_is_trained_by_two_processes_at_once(tiny, tmp_path, monkeypatch, name):
    monkeypatch.setattr("phalanx.training.folder.PATIENCE_SECONDS", 0.2)
    with pytest.raises(Interrupted):
        train(tiny, out=tmp_path, workers=1, watch=Stop(EpochEnd, 1))
    with (
        TrainingFolder(tmp_path).held(name),
        pytest.raises(RunError, match=f"{name} in .* another process"),
    ):
        train(tiny, out=tmp_path, workers=1)


def test_what_a_killed_process_left_half_written_is_cleared(tiny, tmp_path):
    train(tiny, out=tmp_path, workers=1)
    (tmp_path / "weights" / "member-0.safetensors").unlink()
    (tmp_path / "weights" / "member-0.card.json").unlink()
    for place in ("weights/.member-0.safetensors.1.ab", "state/.member-0.pt.1.ab"):
        (tmp_path / place).write_bytes(b"half")
    (tmp_path / ".training.jsonl.1.ab").write_bytes(b"half")
    train(tiny, out=tmp_path, workers=1)
    assert not list(tmp_path.rglob(".*"))


def test_a_full_disk_is_a_typed_error(tiny, tmp_path, monkeypatch):
    def full(*_):
        raise StorageError("no space")

    monkeypatch.setattr("phalanx.training.state.write_atomically", full)
    with pytest.raises(StorageError, match="no space"):
        train(tiny, out=tmp_path, workers=1)


def test_bf16_trains_and_is_warned_of_where_it_is_only_emulated(tiny, monkeypatch):
    recipe = tiny.model_copy(update={"precision": "bf16", "members": 1})
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: False)
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: False)
    with pytest.warns(SlowArithmetic, match=r"computes in bf16.*only emulates.*precision=fp32"):
        train(recipe, workers=1)
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: True)
    [model] = train(recipe, workers=1)  # warnings are errors in these tests
    assert model.card.extra["precision"] == "bf16"
    assert model.card.extra["heldout"]["noisy_accuracy"] > 0.3


def test_data_without_labels_are_refused(tiny, tmp_path, numpy_file):
    data = tiny.data.model_copy(update={"name": numpy_file(labelled=False)})
    with pytest.raises(DataError, match="no labels"):
        train(tiny.model_copy(update={"data": data}), out=tmp_path, workers=1)


def test_a_lone_file_has_no_heldout_images(tiny, numpy_file):
    data = tiny.data.model_copy(update={"name": numpy_file(labelled=True)})
    [model] = train(tiny.model_copy(update={"data": data, "members": 1}))
    assert "heldout" not in model.card.extra
    assert model.classes == 3


def test_workers_and_devices_are_checked(tiny):
    with pytest.raises(ParameterError, match="--workers is 0"):
        train(tiny, workers=0)
    with pytest.raises(ParameterError, match="device"):
        train(tiny, device="abacus")


def test_a_plan_counts_without_training(tiny):
    plan = plan_training(tiny, None, "cpu", 2)
    assert plan["steps_each"] == 3 * math.ceil(plan["images"] / tiny.batch)
    assert plan["parameters_each"] == 64 * 16 + 16 + 16 * 10 + 10
    assert plan["workers"] == 2


def test_signals_are_put_back_and_left_alone_elsewhere():
    before = signal.getsignal(signal.SIGINT)
    seen = []
    with stop_on_interrupt() as stopped:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        assert stopped()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before

    def elsewhere():
        with stop_on_interrupt() as stopped:
            seen.append(stopped())

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [False]
