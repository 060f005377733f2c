"""The one fixture of these tests: runs that were filled without any network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from reporting_runs import MakeRun, classifier, fill, manifest

from phalanx.runs.store import RunStore


@pytest.fixture
def make_run() -> Iterator[MakeRun]:
    """``make_run(images, folder=None, names=..., labelled=True, errors=0)``: a filled run."""
    opened: list[RunStore] = []

    def make(
        images: int,
        folder: Path | None = None,
        *,
        names: Sequence[str] = ("mean", "member-0", "member-1", "member-2"),
        labelled: bool = True,
        errors: int = 0,
        data: str = "mnist",
        **config: object,
    ) -> RunStore:
        records = [
            classifier(name, 3 if i == 0 and len(names) > 1 else 1, primary=i == 0)
            for i, name in enumerate(names)
        ]
        store = RunStore.create(folder, manifest(records, data, **config))
        opened.append(store)
        if images:
            fill(store, images, labelled=labelled, errors=errors)
        return store

    yield make
    for store in opened:
        store.close()
