"""Attack runs: records, resume, sharing of the work, saved inputs and their replay."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from phalanx.attacks.defences import Settings
from phalanx.data.arrays import from_arrays
from phalanx.errors import ConfigurationError, DataError, ParameterError, RunError
from phalanx.evaluation.attack import AttackSweep, open_attack_run, request_attack
from phalanx.evaluation.replay import load_adversaries, replayed, save_adversaries
from phalanx.models.model import InputSpec, Model
from phalanx.reporting.attacked import attack_table
from phalanx.runs.adversaries import adversaries, digest
from phalanx.runs.attacked import summarise_attack
from phalanx.runs.store import RunStore
from phalanx.verdicts import Verdict

DECLARED = ["--input-range", "0", "1", "--classes", "10", "--normalised-inside"]


@pytest.fixture
def data(model_of):
    """Points of which the model of seed 0 gets all but two right."""
    x = torch.rand(12, 1, 4, 4, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        y = model_of(0)(x).argmax(1)
    y[:2] = (y[:2] + 1) % 3
    return from_arrays(x, y)


def asked(models, data, **more):
    options = {"attack": "pgd", "norm": "linf", "eps": 0.1, "options": {"steps": 5}, **more}
    return request_attack(models, data, **options)


def run(models, data, out=None, **more) -> RunStore:
    request = asked(models, data, **more)
    store = open_attack_run(request, out, command="test")
    AttackSweep(request, store).run()
    return store


def test_every_point_has_a_record(model_of, data) -> None:
    store = run([model_of(0)], data)
    records, found = store.certificates(), adversaries(store)
    assert [record.image for record in records] == list(range(12))
    for record in records:
        said = record.details
        assert said["seed"] == 0
        if record.image < 2:
            assert (record.verdict, record.correct) == (Verdict.FALSIFIED, False)
            assert (said["queries"], said["success"], said["distance"]) == (0, False, 0.0)
        elif said["success"]:
            assert record.verdict is Verdict.FALSIFIED
            assert record.correct
            values = found[record.image].values
            assert digest(values) == said["adversarial"]
            with torch.no_grad():
                answer = model_of(0)(torch.from_numpy(values)[None]).argmax(1)
            assert int(answer) != store.labels()[record.image]
            assert 0 < said["distance"] <= 0.1
        else:
            assert (record.verdict, record.reason) == (
                Verdict.UNKNOWN,
                "the attack found nothing",
            )
            assert record.image not in found
    summary = summarise_attack(store)
    assert 0 < summary.robust < summary.clean == 10 / 12
    assert summary.intervals["robust_accuracy"][0] < summary.robust
    json.dumps(summary.as_json(), allow_nan=False)
    assert "pgd within linf 0.1" in attack_table(store).text()


def test_batches_workers_and_resume_change_no_record(model_of, data, tmp_path) -> None:
    whole = run([model_of(0)], data).digest()
    assert run([model_of(0)], data, batch=5).digest() == whole
    folder = tmp_path / "run"
    request = asked([model_of(0)], data, batch=3)
    store = open_attack_run(request, folder, command="test")

    def die(done: int, points: int) -> None:
        if done >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        AttackSweep(request, store, die).run()
    store.close()
    with run([model_of(0)], data, folder, batch=7) as again:
        assert again.digest() == whole
        assert len(adversaries(again)) == summarise_attack(again).points - sum(
            not record.details["success"] for record in again.certificates()
        )
    with RunStore.open(folder) as opened:
        assert opened.digest() == whole


def test_another_question_is_not_answered_in_the_same_folder(model_of, data, tmp_path) -> None:
    run([model_of(0)], data, tmp_path / "run").close()
    for change in ({"eps": 0.2}, {"norm": "l2"}, {"seed": 1}, {"options": {"steps": 6}}):
        with pytest.raises(ConfigurationError, match="stored -> asked"):
            run([model_of(0)], data, tmp_path / "run", **change)
    with pytest.raises(ConfigurationError, match="model"):
        run([model_of(1)], data, tmp_path / "run")


class Spiteful(nn.Module):
    """Linear, and NaN for inputs whose first value is above 0.9."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.network = model.network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = self.network(x)
        bad = x.flatten(1)[:, :1] > 0.9
        return torch.where(bad, torch.full_like(scores, torch.nan), scores)


def test_a_point_that_fails_is_an_error_and_takes_no_other_with_it(model_of, data) -> None:
    model = Model(Spiteful(model_of(0)).eval(), InputSpec((0.0, 1.0)), 3)
    x = data.images(range(12)).clone()
    x[:, 0, 0, 0] = 0.5
    x[7, 0, 0, 0] = 0.95
    store = run([model], from_arrays(x, data.labels(range(12))))
    verdicts = [record.verdict for record in store.certificates()]
    assert [i for i, verdict in enumerate(verdicts) if verdict is Verdict.ERROR] == [7]
    assert summarise_attack(store).errors == 1
    assert "1 points ended in an error" in attack_table(store).text()


def test_random_ensembles_have_expected_accuracies(model_of, data) -> None:
    store = run([model_of(0), model_of(1)], data, reducer="random-member")
    values = {record.details["after"] for record in store.certificates()}
    assert values <= {0.0, 0.5, 1.0}
    assert store.manifest.classifiers[0].name == "random-member"
    assert summarise_attack(store).judged is None


def test_saved_inputs_are_scored_by_any_model(model_of, data, tmp_path) -> None:
    store, path = run([model_of(0)], data), tmp_path / "adv.npz"
    save_adversaries(store, data, path)
    saved = load_adversaries(path)
    same = replayed([model_of(0)], saved, Settings())
    assert same.robust == summarise_attack(store).robust
    assert (same.transferred, same.outside, same.points) == (1.0, 0, 12)
    other = replayed([model_of(1), model_of(2)], saved, Settings(), reducer="random-member")
    assert 0 <= other.robust <= 1
    assert "12 points" in other.lines()[0]
    wide = Model(model_of(0).network, InputSpec((0.0, 1.0), shape=(3, 4, 4)), 3)
    with pytest.raises(DataError, match="shape"):
        replayed([wide], saved, Settings())


def test_files_that_are_no_saved_inputs_are_refused(tmp_path) -> None:
    path = tmp_path / "adv.npz"
    with pytest.raises(DataError, match="cannot be read"):
        load_adversaries(path)
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match="cannot be read"):
        load_adversaries(path)
    np.savez(path, adversarial=np.zeros(3))
    with pytest.raises(DataError, match="clean"):
        load_adversaries(path)
    one, two = np.zeros((1, 2), np.float32), np.zeros((2, 2), np.float32)
    rest = {"label": [1], "success": [True], "norm": "linf", "eps": 1.0, "box": [0, 1]}
    np.savez(path, adversarial=one, clean=two, index=[0], **rest)
    with pytest.raises(DataError, match="same points"):
        load_adversaries(path)


def test_what_cannot_be_attacked_is_refused_before_a_folder_is_made(model_of, data) -> None:
    unlabelled = from_arrays(data.images(range(4)))
    with pytest.raises(DataError, match="labels"):
        asked([model_of(0)], unlabelled)
    with pytest.raises(DataError, match="values from"):
        asked([Model(model_of(0).network, InputSpec((0.0, 255.0)), 3)], data)
    with pytest.raises(DataError, match="selected"):
        asked([model_of(0)], data, indices=[])
    with pytest.raises(ParameterError, match="seed"):
        asked([model_of(0)], data, seed=0.5)


def test_other_runs_are_no_attack_runs(request_of) -> None:
    from evaluation_helpers import certified

    with pytest.raises(RunError, match="certify run"):
        summarise_attack(certified(request_of(images=1)))


MODELS = """
import torch
from torch import nn
def net(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
def other():
    return net(1)
def push(scores, weights, y):
    return -scores[0].gather(1, y[:, None])[:, 0]
"""


def test_the_command(command, tmp_path) -> None:
    (tmp_path / "net.py").write_text(MODELS)
    net, folder = f"{tmp_path / 'net.py'}:net", tmp_path / "run"
    adv = tmp_path / "adv.npz"
    words = [net, *DECLARED, "--attack", "pgd", "--eps", "8/255", "--limit", "8", "--steps", "3"]
    words += ["--device", "cpu", "--data", "digits"]
    code, out, err = command("attack", *words, "--out", folder, "--save", adv)
    assert code == 0, err
    assert "pgd within linf 0.03137" in out
    assert err.strip().splitlines()[-1] == str(folder)
    code, out, _ = command("attack", *words, "--out", folder, "--json")
    assert code == 0
    first = json.loads(out)
    assert first["points"] == 8
    code, _, err = command("attack", *words, "--out", folder, "--seed", "1")
    assert code == 2
    assert "config.seed: 0 -> 1" in err
    code, out, _ = command("attack", net, *DECLARED, "--replay", adv, "--json")
    assert code == 0
    assert json.loads(out)["robust_accuracy"] == first["robust_accuracy"]
    own = ["--objective", f"{tmp_path / 'net.py'}:push", "--out", tmp_path / "own"]
    assert command("attack", *words, *own)[0] == 0
    both = [net, f"{tmp_path / 'net.py'}:other", *words[1:], "--reducer", "random-member"]
    code, out, _ = command("attack", *both, "--out", tmp_path / "both")
    assert code == 0
    assert "random-member" in out


def test_wrong_words_are_refused_in_the_users_words(command, tmp_path) -> None:
    (tmp_path / "net.py").write_text(MODELS)
    net = f"{tmp_path / 'net.py'}:net"
    for words, said in (
        ([], "--eps 8/255"),
        (["--eps", "0"], "positive"),
        (["--eps", "0.1", "--attack", "nothing"], "choose one of"),
        (["--eps", "0.1", "--attack", "square", "--steps", "3"], "queries"),
        (["--eps", "0.1", "--norm", "l7"], "--norm linf or l2"),
        (["--eps", "0.1", "--objective", "hope", "--attack", "pgd"], "margin"),
    ):
        code, _, err = command("attack", net, *DECLARED, *words, "--out", tmp_path / "run")
        assert code == 2, err
        assert said in err
    assert not (tmp_path / "run").exists()
