"""Files of a user are read whole or refused, never cut."""

import gzip

import pytest

from phalanx.errors import GraphError, QueryError
from phalanx.runtime.files import read_limited


def test_a_file_is_read_and_unfolded(tmp_path):
    plain, folded = tmp_path / "net.onnx", tmp_path / "net.onnx.gz"
    plain.write_bytes(b"content")
    folded.write_bytes(gzip.compress(b"content"))
    assert read_limited(plain, 7, GraphError) == b"content"
    assert read_limited(folded, 64, GraphError) == b"content"


def test_what_is_too_large_is_refused(tmp_path):
    plain, folded = tmp_path / "net.onnx", tmp_path / "net.onnx.gz"
    plain.write_bytes(b"x" * 1000)
    folded.write_bytes(gzip.compress(b"x" * 100_000))
    assert folded.stat().st_size < 999
    for path in (plain, folded):
        with pytest.raises(QueryError, match="has more than 999 bytes"):
            read_limited(path, 999, QueryError)


@pytest.mark.parametrize(
    "content",
    [None, b"no gzip", gzip.compress(b"cut off" * 50, mtime=0)[:-9]],
    ids=["absent", "no gzip", "cut off"],
)
def test_what_cannot_be_read_is_said(tmp_path, content):
    path = tmp_path / "query.vnnlib.gz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(QueryError, match="cannot be read"):
        read_limited(path, 999, QueryError)
