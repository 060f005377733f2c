from collections.abc import Callable

import numpy as np
import pytest

from phalanx.training.recipe import Recipe
from phalanx.training.shelf import load_recipe


@pytest.fixture
def tiny() -> Recipe:
    """Two members of a few thousand weights, three epochs of 23 steps: under a second."""
    return load_recipe(
        "digits-gaussian", ["model.options.hidden=[16]", "members=2", "epochs=3", "seed=5"]
    )


@pytest.fixture
def numpy_file(tmp_path_factory) -> Callable[..., str]:
    """Makes an ``.npz`` file of 60 rows in three classes; its path."""

    def make(*, labelled: bool) -> str:
        path = tmp_path_factory.mktemp("data") / "mine.npz"
        x = np.random.default_rng(0).random((60, 8), dtype=np.float32)
        arrays = {"x": x, "value_range": np.array([0.0, 1.0])}
        if labelled:
            arrays["y"] = np.arange(60) % 3
        np.savez(path, **arrays)
        return str(path)

    return make


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Networks this small only wait for a second thread; processes a test starts inherit it."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
