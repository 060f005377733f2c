"""Downloads from a local server that is interrupted, wrong or malicious."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from data_helpers import Web, idx_bytes, remote

from phalanx.data.download import check_address, download
from phalanx.data.fetch import fetch
from phalanx.data.locate import load
from phalanx.data.sources import SOURCES, Source
from phalanx.data.unpack import unpack
from phalanx.errors import DataError, ParameterError, StorageError

CONTENT = np.random.default_rng(3).bytes(300_000)


FILE = remote(CONTENT)


def test_a_file_arrives_under_its_name(web: Web, tmp_path: Path) -> None:
    web.files["f.gz"] = CONTENT
    seen: list[tuple[str, int, int]] = []
    download(FILE, [web.base], tmp_path / "f.gz", progress=lambda *step: seen.append(step))
    assert (tmp_path / "f.gz").read_bytes() == CONTENT
    assert seen[-1] == ("f.gz", len(CONTENT), len(CONTENT))
    assert [path.name for path in tmp_path.iterdir()] == ["f.gz"]


def test_an_interrupted_download_continues_at_once(web: Web, tmp_path: Path) -> None:
    web.files["f.gz"] = CONTENT
    web.cut_after = [100_000, 50_000]
    download(FILE, [web.base], tmp_path / "f.gz")
    assert (tmp_path / "f.gz").read_bytes() == CONTENT
    assert web.ranges == [None, "bytes=100000-", "bytes=150000-"]


def test_an_interrupted_run_is_continued_by_the_next(web: Web, tmp_path: Path) -> None:
    web.files["f.gz"] = CONTENT
    web.cut_after = [90_000, 10, 20]
    with pytest.raises(DataError, match=r"interrupted after 90030 of 300000.*same command again"):
        download(FILE, [web.base], tmp_path / "f.gz")
    assert not (tmp_path / "f.gz").exists()
    assert (tmp_path / "f.gz.part").stat().st_size == 90_030
    download(FILE, [web.base], tmp_path / "f.gz")
    assert (tmp_path / "f.gz").read_bytes() == CONTENT
    assert web.ranges[-1] == "bytes=90030-"


def test_a_server_that_ignores_range_sends_all_of_it(web: Web, tmp_path: Path) -> None:
    web.files["f.gz"] = CONTENT
    web.honour_ranges = False
    (tmp_path / "f.gz.part").write_bytes(b"x" * 1000)
    download(FILE, [web.base], tmp_path / "f.gz")
    assert (tmp_path / "f.gz").read_bytes() == CONTENT


@pytest.mark.parametrize("size", [1000, len(CONTENT), len(CONTENT) + 1])
def test_a_part_with_foreign_bytes_is_thrown_away(web: Web, tmp_path: Path, size: int) -> None:
    web.files["f.gz"] = CONTENT
    (tmp_path / "f.gz.part").write_bytes(b"x" * size)
    download(FILE, [web.base], tmp_path / "f.gz")
    assert (tmp_path / "f.gz").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"y" + CONTENT[1:], "SHA-256 .* instead of"),
        (CONTENT + b"more", "more than the expected 300000 bytes"),
        (CONTENT[:-1], "interrupted after 299999"),
    ],
    ids=["wrong", "long", "short"],
)
def test_other_bytes_are_never_kept(web: Web, tmp_path: Path, content: bytes, message: str) -> None:
    web.files["f.gz"] = content
    web.honour_ranges = False
    with pytest.raises(DataError, match=message):
        download(FILE, [web.base], tmp_path / "f.gz")
    assert not (tmp_path / "f.gz").exists()


def test_the_next_mirror_helps(web: Web, tmp_path: Path) -> None:
    web.files["good/f.gz"] = CONTENT
    web.files["bad/f.gz"] = CONTENT[::-1]
    mirrors = ["http://127.0.0.1:9/", web.base + "gone/", web.base + "bad", web.base + "good"]
    download(FILE, mirrors, tmp_path / "f.gz")
    assert (tmp_path / "f.gz").read_bytes() == CONTENT
    with pytest.raises(DataError) as caught:
        download(FILE, mirrors[:3], tmp_path / "g.gz")
    assert "HTTP 404" in str(caught.value)
    assert "refused" in str(caught.value)


def test_only_the_web_is_opened(web: Web, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(CONTENT)
    for target in (secret.as_uri(), "ftp://127.0.0.1/f.gz", "data:,x"):
        web.redirects["f.gz"] = target
        with pytest.raises(DataError, match=r"refused a redirect|not allowed"):
            download(FILE, [web.base], tmp_path / "f.gz")
        with pytest.raises(ParameterError, match="not a web address"):
            fetch("mnist", tmp_path, base=target)
    web.redirects["f.gz"] = web.base + "elsewhere"
    web.files["elsewhere"] = CONTENT
    download(FILE, [web.base], tmp_path / "f.gz")
    with pytest.raises(ParameterError):
        check_address("http:///path")


def test_a_disk_that_refuses_is_a_storage_error(web: Web, tmp_path: Path) -> None:
    web.files["f.gz"] = CONTENT
    (tmp_path / "f.gz.part").mkdir()
    with pytest.raises(StorageError, match=r"f\.gz\.part"):
        download(FILE, [web.base], tmp_path / "f.gz")
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        fetch("mnist", tmp_path / "file")


def test_fetched_mnist_can_be_loaded(web: Web, tmp_path: Path) -> None:
    images = gzip.compress(idx_bytes(np.zeros((2, 28, 28))))
    labels = gzip.compress(idx_bytes(np.array([4, 2])))
    names = {file.name: images if "images" in file.name else labels for file in MNIST_FILES}
    web.files.update(names)
    source = Source(
        "mnist", (web.base,), tuple(remote(content, name) for name, content in names.items())
    )
    paths = fetch(source, tmp_path)
    assert [path.parent for path in paths] == [tmp_path / "mnist"] * 4
    assert load("mnist", tmp_path).labels([0, 1]).tolist() == [4, 2]
    requests = len(web.ranges)
    assert fetch(source, tmp_path) == paths
    assert len(web.ranges) == requests
    paths[0].write_bytes(b"mine")
    with pytest.raises(DataError, match="move it away"):
        fetch(source, tmp_path)
    assert paths[0].read_bytes() == b"mine"


MNIST_FILES = SOURCES["mnist"].files


def test_every_source_is_complete() -> None:
    assert list(SOURCES) == ["mnist", "fashion-mnist", "cifar10", "cifar100"]
    for source in SOURCES.values():
        assert all(check_address(mirror).endswith("/") for mirror in source.mirrors)
        assert all(len(bytes.fromhex(file.sha256)) == 32 for file in source.files)
    with pytest.raises(ParameterError, match="choose one of mnist"):
        fetch("svhn")


def archive_of(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for info, content in entries:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def entry(name: str, content: bytes = b"x", kind: bytes = tarfile.REGTYPE, link: str = ""):  # type: ignore[no-untyped-def]
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info, content


def test_fetched_cifar_is_unpacked(web: Web, tmp_path: Path) -> None:
    record = bytes([6]) + bytes(range(256)) * 12
    archive = archive_of(
        entry("cifar-10-batches-bin", b"", tarfile.DIRTYPE),
        entry("./cifar-10-batches-bin/test_batch.bin", record * 2),
        entry("cifar-10-batches-bin/readme.html"),
    )
    web.files["c.tar.gz"] = archive
    member = "cifar-10-batches-bin/test_batch.bin"
    source = Source("cifar10", (web.base,), (remote(archive, "c.tar.gz", (member,)),))
    assert fetch(source, tmp_path) == [tmp_path / "cifar10" / member]
    assert load("cifar10", tmp_path).labels([0, 1]).tolist() == [6, 6]
    assert [path.name for path in (tmp_path / "cifar10").rglob("*") if path.is_file()] == [
        "test_batch.bin"
    ]
    assert fetch(source, tmp_path) == [tmp_path / "cifar10" / member]
    assert len(web.ranges) == 1


EVIL = {
    "traversal": entry("../evil"),
    "inner traversal": entry("a/../../evil"),
    "absolute": entry("/evil"),
    "backslash": entry("..\\evil"),
    "drive": entry("C:evil"),
    "symlink": entry("wanted", b"", tarfile.SYMTYPE, "/etc/passwd"),
    "hard link": entry("wanted", b"", tarfile.LNKTYPE, "../evil"),
    "device": entry("wanted", b"", tarfile.CHRTYPE),
    "fifo": entry("wanted", b"", tarfile.FIFOTYPE),
}


@pytest.mark.parametrize("kind", EVIL)
def test_evil_archives_are_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a.tar.gz").write_bytes(archive_of(EVIL[kind], entry("wanted")))
    with pytest.raises(DataError, match="was refused"):
        unpack(tmp_path / "a.tar.gz", ["wanted"], tmp_path / "inner" / "out")
    assert [path.name for path in tmp_path.rglob("*") if not path.is_dir()] == ["a.tar.gz"]


def test_archive_bombs_are_refused(tmp_path: Path) -> None:
    path, out = tmp_path / "a.tar.gz", tmp_path / "out"
    path.write_bytes(archive_of(entry("wanted", bytes(1 << 22))))
    with pytest.raises(DataError, match="decompression bomb"):
        unpack(path, ["wanted"], out, max_bytes=1 << 20)
    assert not (out / "wanted").exists()
    path.write_bytes(archive_of(*(entry(f"n{i}") for i in range(6))))
    with pytest.raises(DataError, match="more than 5 entries"):
        unpack(path, ["wanted"], out, max_members=5)
    # a name whose extended header alone is larger than the limit
    path.write_bytes(archive_of(entry("n" * (1 << 21))))
    with pytest.raises(DataError, match="decompression bomb"):
        unpack(path, ["wanted"], out, max_bytes=1 << 20)
    path.write_bytes(gzip.compress(archive_of(entry("wanted")) + bytes(1 << 22)))
    with pytest.raises(DataError):
        unpack(path, ["wanted"], out, max_bytes=1 << 20)


def test_damaged_archives_are_named(tmp_path: Path) -> None:
    path, whole = tmp_path / "a.tar.gz", archive_of(entry("wanted", CONTENT))
    for content in (
        b"",
        b"rubbish",
        whole[:-3000],
        whole[:-8] + bytes(8),
        gzip.compress(b"no tar"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"a\.tar\.gz"):
            unpack(path, ["wanted"], tmp_path / "out")
    path.write_bytes(whole)
    with pytest.raises(DataError, match="has no other"):
        unpack(path, ["wanted", "other"], tmp_path / "out")
