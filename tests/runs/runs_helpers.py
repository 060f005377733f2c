"""Small runs with known certificates."""

from __future__ import annotations

from phalanx.runs.provenance import digest_of
from phalanx.runs.schema import (
    ESTIMATION,
    SELECTION,
    CertificateRecord,
    ChunkRecord,
    ClassifierRecord,
    Manifest,
    SampleRecord,
)
from phalanx.runs.store import RunStore
from phalanx.verdicts import Verdict


def classifier(name: str, *, primary: bool = False) -> ClassifierRecord:
    identity = {"members": [f"digest of {name}"], "reducer": "mean", "dtype": "float32"}
    return ClassifierRecord(name, identity, digest_of(identity), primary)


def manifest(*names: str, **changes: object) -> Manifest:
    """A manifest with another value for some keys of its configuration, or (None) without them."""
    config: dict[str, object] = {
        "sigma": 0.5,
        "n": 1000,
        "n0": 100,
        "alpha": 0.001,
        "seed": 0,
        "certificate": "neyman-pearson",
        "bound": "clopper-pearson",
        "stop": "fixed",
        "noise": "gaussian",
        "norm": "l2",
        "arithmetic": "real",
    }
    config = {key: value for key, value in (config | changes).items() if value is not None}
    chosen = names or ("mean",)
    records = tuple(classifier(name, primary=name == chosen[0]) for name in chosen)
    return Manifest("certify", "phalanx certify", config, records, {"name": "digits"})


# p_lower and radius of Cohen et al. 2019 at n = 1000, alpha = .001, sigma = .5, from
# scipy.special.betaincinv(n_a, n - n_a + 1, alpha) and ndtri.
CERTIFIED = {
    990: (0.9760361871553114, 0.9890047910705996),
    900: (0.8674640180257484, 0.5572415811398998),
    600: (0.5510754739370525, 0.06418949815276479),
    500: (0.45077105398478234, 0.0),
}


def fill(store: RunStore, name: str, image: int, label: int, votes: int) -> None:
    """One image: ``votes`` of 1000 for class 1, the rest for class 0, in two chunks."""
    store.add_samples([SampleRecord(image, label)])
    half = votes // 2
    store.commit_chunks(
        [
            ChunkRecord(name, image, SELECTION, 0, 100, {1: 90, 0: 10}),
            ChunkRecord(name, image, ESTIMATION, 0, 500, {1: half, 0: 500 - half}),
            ChunkRecord(name, image, ESTIMATION, 1, 500, {1: votes - half, 0: 500 - votes + half}),
        ]
    )
    store.commit_certificates([certificate(name, image, label, votes)])


def certificate(name: str, image: int, label: int, votes: int) -> CertificateRecord:
    lower, radius = CERTIFIED[votes]
    predicted = 1 if radius else None
    verdict = Verdict.VERIFIED if radius else Verdict.ABSTAINED
    correct = predicted == label
    return CertificateRecord(
        name, image, verdict, predicted, correct, radius, votes, 1000, lower, seconds=0.1
    )
