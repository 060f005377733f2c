"""``phalanx list recipes``: a sentence for each, and a whole one."""

from __future__ import annotations

from phalanx.cli.listing import first_sentence, parts_of
from phalanx.training.shelf import load_recipe


def test_no_summary_of_a_recipe_is_cut_inside_a_sentence() -> None:
    for name, summary in parts_of("recipes"):
        assert load_recipe(name).description.startswith(f"{summary}.")
        assert not summary.endswith("et al")


def test_a_sentence_ends_where_it_ends() -> None:
    text = "After Cohen et al. 2019, at rate 0.1 (Horvath et al. too). Not this."
    assert first_sentence(text) == "After Cohen et al. 2019, at rate 0.1 (Horvath et al. too)"
    assert first_sentence("Seconds on two cores.") == "Seconds on two cores"
    assert first_sentence("no stop") == "no stop"
