"""The Python front door: ``certify``, its result, and ``load``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from torch import Tensor, nn

from phalanx.data.arrays import from_arrays
from phalanx.data.dataset import Dataset
from phalanx.ensembles.ensemble import Ensemble
from phalanx.errors import MissingDependencyError, ParameterError
from phalanx.evaluation.certify import Sweep
from phalanx.evaluation.request import open_run, request_of, settle
from phalanx.models.model import Model
from phalanx.models.resolve import Declaration, resolve_all, wrap
from phalanx.reporting.table import Table
from phalanx.reporting.tables import summary_table
from phalanx.runs.query import Summary, summarise
from phalanx.runs.schema import CertificateRecord
from phalanx.runs.store import RunStore
from phalanx.smoothing.smoothed import Smoothed

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CertifyResult", "Smoothed", "certify", "load"]

UNIT = (0.0, 1.0)
Models = Model | Ensemble | nn.Module | str | Sequence[Model | nn.Module]


class CertifyResult(Sequence[CertificateRecord]):
    """Certificates of one classifier, in the order of the inputs.

    ``res[i].radius``, ``res[i].predicted`` and ``res[i].verdict`` speak of input ``i``;
    ``res.of(name)`` of another classifier of the same pass.
    """

    def __init__(self, store: RunStore, classifier: str | None = None) -> None:
        self.store = store
        names = [record.name for record in store.manifest.classifiers]
        if classifier is not None and classifier not in names:
            raise ParameterError(
                f"there is no classifier {classifier!r}", repair=f"one of {', '.join(names)}"
            )
        self.classifiers, self.classifier = names, classifier or names[0]
        self._records = store.certificates(self.classifier)

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[CertificateRecord]:
        return iter(self._records)

    @overload
    def __getitem__(self, index: int) -> CertificateRecord: ...
    @overload
    def __getitem__(self, index: slice) -> list[CertificateRecord]: ...
    def __getitem__(self, index: int | slice) -> CertificateRecord | list[CertificateRecord]:
        return self._records[index]

    def __repr__(self) -> str:
        return f"CertifyResult of {self.classifier!r} on {len(self)} inputs\n{self.table()}"

    def of(self, classifier: str) -> CertifyResult:
        """The certificates of another classifier that shared the pass."""
        return CertifyResult(self.store, classifier)

    def smoothed(self, model: Model | Ensemble, **options: Any) -> Smoothed:
        """The predictor that these certificates speak of: this noise, on this lattice.

        Args:
            model: what was certified.
            options: further ones of `Smoothed`, such as ``device``.
        """
        config = self.store.manifest.config
        arithmetic, steps = config["arithmetic"], config.get("steps")
        return Smoothed(
            model,
            config["sigma"],
            noise=config.get("noise"),
            order=config.get("order"),
            precision=config["precision"],
            arithmetic=arithmetic,
            steps=steps,
            labels=config.get("labels", ()),
            groups=config.get("groups", ()),
            allow_sigma_mismatch=True,
            **options,
        )

    def summary(self) -> Summary:
        """Certified accuracy at radii with intervals, average certified radius, counts."""
        return summarise(self.store, self.classifier)

    def table(self) -> Table:
        """All classifiers of the pass; text when printed, a table in a notebook."""
        return summary_table(self.store)

    def to_pandas(self) -> pd.DataFrame:
        """One row per input. Needs pandas."""
        try:
            import pandas as pd
        except ImportError:
            raise MissingDependencyError(
                "to_pandas needs pandas", repair="pip install 'phalanx[frames]'"
            ) from None
        rows = [{**vars(record), "verdict": str(record.verdict)} for record in self._records]
        return pd.DataFrame(rows)


def certify(
    model: Models,
    x: Tensor | Dataset | Any,
    y: Tensor | Any | None = None,
    *,
    method: str | None = None,
    eps: float | None = None,
    sigma: float | None = None,
    n: int = 100_000,
    n0: int = 100,
    alpha: float = 0.001,
    seed: int = 0,
    reducers: Sequence[str] | None = None,
    each: bool = False,
    consensus: int | None = None,
    out: str | os.PathLike[str] | None = None,
    device: str = "auto",
    allow_sigma_mismatch: bool = False,
    arithmetic: str | None = None,
    input_range: tuple[float, float] | None = None,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    classes: int | None = None,
    normalised_inside: bool = False,
    **options: Any,
) -> CertifyResult:
    """Certify a model, or an ensemble before smoothing, on a batch of inputs.

    Cohen, Rosenfeld & Kolter (ICML 2019): Gaussian noise and l2 balls (or ``noise=``, ``norm=``),
    each certificate wrong with probability at most ``alpha``.

    Args:
        model: a `Model`, an `Ensemble`, a MODEL string, a bare module (then declare its input
            below), or a sequence of models, which is an ensemble.
        x: inputs ``(B, *shape)`` in input units, or a `Dataset`.
        y: labels ``(B,)``, or None: certified for the predicted class, accuracy absent.
        method: a bounding method (``crown``, ``auto``, ...): certify by deterministic bounds; then
            ``eps``, ``norm``, ``search``, ``seed``, ``arithmetic`` and the method's own options are
            read, see `phalanx.evaluation.bounding.request_bounds`. ``auto`` is smoothing where a
            noise level is known.
        eps: the radius that bounds are asked about, in input units.
        sigma: noise level in input units; taken from the model's card when it has one.
        n, n0, alpha, seed: see `CertifyConfig`.
        reducers: the ensemble under each of these, all in one pass; the first is primary.
            Default: an `Ensemble`'s own, else the mean of the logits, or none with ``each``.
        each: also every member alone.
        consensus: K: where the first K members agree, the others are not asked (K-consensus).
        out: a run folder to make or continue; in memory when None.
        arithmetic: ``lattice`` (the default: noise and sums are exact) or ``real``.
        options: further fields of `CertifyConfig`, such as ``precision="bf16"``.

    Raises:
        ParameterError, ModelError, DataError, ConfigurationError: what, why and the repair.
    """
    declaration = Declaration(
        input_range=input_range,
        mean=tuple(mean),
        std=tuple(std),
        classes=classes,
        normalised_inside=normalised_inside,
    )
    asked = {"n": n, "n0": n0, "alpha": alpha, "seed": seed, **options}
    asked["arithmetic"] = arithmetic
    if sigma is not None:
        asked["sigma"] = sigma
    members, names, reducer_options = _members(model, declaration, reducers)
    dataset = x if isinstance(x, Dataset) else _dataset(x, y, members)
    noisy = sigma is not None or all(member.sigma for member in members)
    if method not in (None, "smoothing") and not (method == "auto" and noisy):
        asked = {**options, "method": method, "eps": eps, "arithmetic": arithmetic, "seed": seed}
        from phalanx.evaluation.bounding import one_reducer

        asked["reducer"] = one_reducer(names, reducer_options)
        return _bounded(members, dataset, out, asked)
    if eps is not None:
        raise ParameterError("eps with smoothing", why="it finds a radius", repair="method='auto'")
    request = request_of(
        members,
        dataset,
        asked,
        reducer_names=names,
        reducer_options=reducer_options,
        each=each,
        consensus=consensus,
        allow_sigma_mismatch=allow_sigma_mismatch,
        device=device,
    )
    folder = None if out is None else Path(out)
    request, store = open_run(settle(request, folder), folder, command="phalanx.certify(...)")
    Sweep(request, store).run()
    return CertifyResult(store, request.classifiers[0].name)


def _bounded(
    members: Sequence[Model],
    dataset: Dataset,
    out: str | os.PathLike[str] | None,
    asked: dict[str, Any],
) -> CertifyResult:
    """Certificates by deterministic bounds; what `request_bounds` does not name is the method's."""
    from phalanx.evaluation.bounding import BoundSweep, open_bound_run, request_bounds

    names = ("reducer", "method", "eps", "arithmetic", "seed", "norm", "search", "falsify")
    named = {name: asked[name] for name in names if name in asked}
    rest = {name: value for name, value in asked.items() if name not in names}
    request = request_bounds(members, dataset, options=rest, **named)
    folder = None if out is None else Path(out)
    store = open_bound_run(request, folder, command="phalanx.certify(...)")
    BoundSweep(request, store).run()
    return CertifyResult(store)


def load(*specs: str, **declaration: Any) -> Model | list[Model]:
    """Models from MODEL strings: checkpoints, folders, ``file.py:factory``, built-in names."""
    models = resolve_all(specs, Declaration(**declaration))
    return models[0] if len(models) == 1 else models


def _dataset(x: Any, y: Any, members: Sequence[Model]) -> Dataset:
    """Arrays in the units the models declare; left to themselves, floats lie in 0 .. 1."""
    floats = "float" in str(getattr(x, "dtype", ""))
    declared = members[0].inputs.range if members else UNIT
    return from_arrays(x, y, value_range=declared if floats and declared != UNIT else None)


def _members(
    model: Models, declaration: Declaration, names: Sequence[str] | None
) -> tuple[list[Model], Sequence[str] | None, dict[str, Any]]:
    """The members, the reducers asked for, and the options of the first of them."""
    if isinstance(model, Ensemble):
        if names is None:
            return list(model.models), [model.reducer_name], dict(model.reducer_options)
        own = bool(names) and names[0] == model.reducer_name
        return list(model.models), names, dict(model.reducer_options) if own else {}
    if isinstance(model, str | os.PathLike):
        return resolve_all([os.fspath(model)], declaration), names, {}
    several: list[Any] = list(model) if isinstance(model, Sequence) else [model]
    return [m if isinstance(m, Model) else wrap(m, declaration) for m in several], names, {}
