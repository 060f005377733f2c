"""Arrays and .npz files."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from phalanx.data.locate import from_arrays, load
from phalanx.errors import DataError

X = np.linspace(0, 1, 3 * 1 * 4 * 4).reshape(3, 1, 4, 4)


@pytest.mark.parametrize(
    "x",
    [X, X.astype(np.float16), torch.from_numpy(X), torch.from_numpy(X).bfloat16(), X.tolist()],
    ids=["float64", "float16", "torch", "bfloat16", "list"],
)
def test_floats_become_float32(x: Any) -> None:
    data = from_arrays(x, [0, 5, 2])
    assert data.images([2, 0]).shape == (2, 1, 4, 4)
    assert data.images([2]).dtype == torch.float32
    assert data.labels([1]).tolist() == [5]
    assert data.card.value_range == (0.0, 1.0)
    assert set(data.card.checksums) == {"x", "y"}


def test_rows_ranges_and_missing_labels() -> None:
    data = from_arrays(X.reshape(3, 16) * 2 - 1, value_range=(-1, 1))
    assert data.card.shape == (16,)
    assert data.card.value_range == (-1.0, 1.0)
    assert not data.labelled
    assert data.label(0) is None
    integers = from_arrays(np.arange(6, dtype=np.uint8).reshape(2, 3), value_range=(0, 255))
    assert integers.images([1]).tolist() == [[3.0, 4.0, 5.0]]


def test_later_changes_of_the_callers_array_are_not_ours() -> None:
    for x in (X.astype(np.float32), torch.from_numpy(X.astype(np.float32))):
        data = from_arrays(x)
        x[:] = 7
        assert float(data.images([0, 1, 2]).max()) == 1.0


def _with(value: float) -> np.ndarray:
    x = X.copy()
    x[1, 0, 2, 2] = value
    return x


REFUSED: dict[str, tuple[Any, Any, Any, str]] = {
    "nan": (_with(np.nan), None, None, "input 1 has NaN"),
    "inf": (_with(np.inf), None, (0, 1), "input 1 has NaN or infinite"),
    "integers": (np.zeros((2, 3), np.uint8), None, None, "integers"),
    "booleans": (np.zeros((2, 3), bool), None, None, "dtype"),
    "complex": (np.zeros((2, 3), complex), None, None, "dtype"),
    "objects": (np.array([[{}]]), None, None, "not an array of numbers"),
    "text": ("images", None, None, "not an array of numbers"),
    "ragged": ([[1.0], [1.0, 2.0]], None, None, "not an array of numbers"),
    "empty": (np.zeros((0, 1, 4, 4)), None, None, "non-empty batch"),
    "empty axis": (np.zeros((2, 0)), None, None, "non-empty batch"),
    "one row": (np.zeros(4), None, None, "non-empty batch"),
    "nhwc": (np.zeros((2, 32, 32, 3)), None, None, "NCHW"),
    "undeclared range": (_with(1.5), None, None, "value_range=(low, high)"),
    "outside range": (_with(1.5), None, (0, 1), "declared range is 0 .. 1"),
    "reversed range": (X, None, (1, 0), "increasing"),
    "nan range": (X, None, (0, np.nan), "finite"),
    "float labels": (X, [0.0, 1.0, 2.0], None, "labels y have dtype"),
    "boolean labels": (X, [True, False, True], None, "labels y have dtype"),
    "text labels": (X, ["a", "b", "c"], None, "not an array of numbers"),
    "few labels": (X, [0, 1], None, "labels y have shape"),
    "one-hot labels": (X, np.eye(3, dtype=int), None, "argmax"),
    "negative labels": (X, [0, -1, 2], None, "labels y contain -1"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_unusable_arrays_are_refused(kind: str) -> None:
    x, y, bounds, message = REFUSED[kind]
    with pytest.raises(DataError) as caught:
        from_arrays(x, y, value_range=bounds)
    assert message in str(caught.value)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_bytes_and_floats(tmp_path: Path, save: Any) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3, 8, 8), np.uint8)
    save(tmp_path / "bytes.npz", x=pixels, y=np.array([3, 1, 2, 0], np.uint8))
    data = load(tmp_path / "bytes.npz")
    assert torch.equal(data.images([2])[0], torch.from_numpy(pixels[2].astype(np.float32)) / 255)
    assert data.labels([0, 1]).tolist() == [3, 1]
    save(tmp_path / "rows.npz", x=np.asfortranarray(X.reshape(3, 16) * 4), value_range=[0.0, 4.0])
    data = load(tmp_path / "rows.npz")
    assert data.card.value_range == (0.0, 4.0)
    assert not data.labelled
    expected = torch.from_numpy(X.reshape(3, 16) * 4).float()
    assert torch.equal(data.images([0, 1, 2]), expected)
    save(tmp_path / "big.npz", x=X.astype(">f4"))
    assert torch.equal(load(tmp_path / "big.npz").images([1])[0], torch.from_numpy(X[1]).float())


def test_npz_folder_has_a_file_a_split(tmp_path: Path) -> None:
    np.savez(tmp_path / "train.npz", x=X)
    assert len(load("npz", tmp_path, "train")) == 3
    with pytest.raises(DataError, match=r"test\.npz cannot be read"):
        load("npz", tmp_path)


def test_pickles_in_npz_are_never_opened(tmp_path: Path) -> None:
    marker = tmp_path / "executed"

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (marker,))

    np.savez(tmp_path / "evil.npz", x=np.array([Bomb()], dtype=object))
    with pytest.raises(DataError, match="pickled objects could execute code"):
        load(tmp_path / "evil.npz")
    assert not marker.exists()


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _huge() -> bytes:
    return _npy(np.zeros((1, 4))).replace(b"(1, 4)", b"(1<<40)", 1)[:128]


MEMBERS = {
    "no x": ("z.npy", _npy(X), "no array 'x'"),
    "no array": ("x.npy", b"hello", "damaged"),
    "cut": ("x.npy", _npy(X)[:-1], "announces 384 bytes"),
    "surplus": ("x.npy", _npy(X) + b"0", "announces 384 bytes"),
    "claims too much": ("x.npy", _npy(X).replace(b"(3,", b"(9,"), "announces 1152 bytes"),
    "header is an expression": ("x.npy", _huge(), "damaged"),
    "unknown version": ("x.npy", b"\x93NUMPY\x09\x00" + bytes(64), "version"),
    "text": ("x.npy", _npy(np.array([["a"]])), "dtype"),
    "nan": ("x.npy", _npy(np.full((1, 2), np.nan)), "NaN"),
}


@pytest.mark.parametrize("kind", MEMBERS)
def test_damaged_npz_files_are_named(tmp_path: Path, kind: str) -> None:
    name, content, message = MEMBERS[kind]
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr(name, content)
    with pytest.raises(DataError, match=message):
        load(tmp_path / "d.npz")


def test_npz_bombs_and_rubbish(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "bomb.npz", x=np.zeros((1000, 1000)))
    from phalanx.data.readers.npz import npz

    with pytest.raises(DataError, match="unpacks to 8000128 bytes"):
        npz(tmp_path / "bomb.npz", "test", limit=1 << 20)
    (tmp_path / "r.npz").write_bytes(b"not a zip file")
    with pytest.raises(DataError, match="damaged"):
        load(tmp_path / "r.npz")
    with pytest.raises(DataError, match=r"no \.npz file was named"):
        load("npz")
