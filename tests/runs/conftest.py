from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from runs_helpers import fill, manifest

from phalanx.runs.store import RunStore


@pytest.fixture
def small(tmp_path: Path) -> Iterator[RunStore]:
    """Two classifiers, four images: certified far, certified near, wrong, abstained."""
    with RunStore.create(tmp_path / "small", manifest("mean", "member-0")) as store:
        for name, votes in (("mean", (990, 900, 990, 500)), ("member-0", (900, 600, 990, 500))):
            for image, (label, count) in enumerate(zip((1, 1, 0, 1), votes, strict=True)):
                fill(store, name, image, label, count)
        yield store
