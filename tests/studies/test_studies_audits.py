"""A study whose methods are audited instead of certified."""

import pytest
from pydantic import ValidationError

from phalanx.studies.audits import FIGURES, audit_rows, audit_table
from phalanx.studies.carry_out import carry_out
from phalanx.studies.steps import Setting, steps
from phalanx.studies.study import Study

SMALL = {"model.options.hidden": [16], "members": 2}
FIELDS = {
    "name": "tiny",
    "description": "Two members under RED.",
    "data": "digits",
    "network": "mlp",
    "sigmas": [0],
    "audit": {"norm": "linf", "eps": 0.1},
    "trainings": {
        "red": {"recipe": "digits-red", "changes": SMALL},
    },
    "methods": {"red": {"training": "red"}},
    "scales": {"smoke": {"epochs": 1, "images": 2, "effort": "quick"}},
}


def test_from_data_to_table(tmp_path, command):
    study = Study.model_validate(FIELDS)
    cpu = ("--device", "cpu")
    setting = Setting(study, study.scales["smoke"], tmp_path, device=cpu, workers=1)
    assert audit_rows(setting) == []
    carry_out(steps(setting), lambda text: None, lambda words: command(*words)[0])
    assert all(step.done() for step in steps(setting))
    rows = audit_rows(setting)
    (row,) = rows
    assert row.trained["epochs"] == 1
    assert set(row.as_json()["by_seed"]) == {"0"}
    worst = row.values("worst case, expected")
    assert all(w <= p for w, p in zip(worst, row.values("published style"), strict=True))
    text = audit_table(setting, rows).text()
    for figure in FIGURES:
        assert figure in text


@pytest.mark.parametrize("change", [{"sigmas": [0.5]}, {"audit": None}])
def test_noise_is_certified_and_its_absence_audited(change):
    with pytest.raises(ValidationError, match="sigma 0"):
        Study.model_validate({**FIELDS, **change})
