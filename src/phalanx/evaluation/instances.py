"""Tables of verification instances: one process each, kept as they end, summed by benchmark."""

from __future__ import annotations

import csv
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from phalanx.errors import ConfigurationError, DataError, RunError
from phalanx.runs.database import typed_errors
from phalanx.runs.manifest import write_atomically
from phalanx.runs.provenance import digest_of, environment, file_digest

RECORDS, BEGUN = "instances.jsonl", "environment.json"
OVERRUN = 15.0
"""Seconds behind the time limit after which a process is ended."""
SOLVED = ("sat", "unsat")
FAILED = ("error", "overran")


@dataclass(frozen=True)
class Instance:
    """A line of a table.

    Attributes:
        benchmark: the folder of the table.
        network, query: files.
        timeout: seconds.
        expected: ``sat`` or ``unsat`` where the table says so, else empty.
        options: further words of the command that solves it.
    """

    benchmark: str
    network: Path
    query: Path
    timeout: float
    expected: str = ""
    options: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """What a record is found again by; with other options it is another one."""
        own = f"{self.benchmark}|{self.network.name}|{self.query.name}|{self.timeout:g}"
        return "|".join([own, *self.options])

    def digest(self, of: Callable[[Path], str] = file_digest) -> str:
        """SHA-256 of what the digests of both files say together; empty where one is not there."""
        try:
            return digest_of([of(file) for file in (self.network, self.query)])
        except OSError:  # whoever solves it says so
            return ""


@dataclass(frozen=True)
class Record:
    """How an instance ended.

    Attributes:
        key: of the instance.
        benchmark: likewise.
        answer: the first line that was printed, or ``overran``.
        expected: of the instance.
        seconds: wall clock of the whole process.
        cpu: seconds of its processors.
        note: the last line of stderr.
        digest: of the instance; empty in records of earlier versions.
    """

    key: str
    benchmark: str
    answer: str
    expected: str
    seconds: float
    cpu: float
    note: str
    digest: str = ""

    @property
    def wrong(self) -> bool:
        """Whether it answers what is known to be false."""
        return self.answer in SOLVED and self.expected in SOLVED and self.answer != self.expected


def read_tables(paths: Sequence[Path], cap: float | None = None) -> list[Instance]:
    """The instances of tables, of a folder's own table, or of those in the folders of a folder.

    A table has the columns onnx, vnnlib, timeout and perhaps expected, with a header or, as in
    VNN-COMP, without one; its paths start at its own folder.

    Raises:
        DataError: no table, or a line that is none.
    """
    found: list[Instance] = []
    for path in paths:
        tables = [path]
        if path.is_dir():
            own = path / "instances.csv"
            tables = [own] if own.is_file() else sorted(path.glob("*/instances.csv"))
        if not tables:
            raise DataError(f"{path} has no instances.csv, and no folder with one")
        for table in tables:
            found += _of_table(table, cap)
    return found


def _of_table(table: Path, cap: float | None) -> Iterator[Instance]:
    try:
        with table.open(newline="") as lines:
            rows = [row for row in csv.reader(lines) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table} cannot be read", why=str(error)) from error
    if rows and rows[0][0].strip() == "onnx":
        rows = rows[1:]
    for number, row in enumerate(rows, 1):
        try:
            network, query, seconds = (cell.strip() for cell in row[:3])
            timeout = float(seconds)
        except ValueError:
            raise DataError(
                f"{table}: row {number} is not onnx,vnnlib,timeout[,expected]"
            ) from None
        expected = row[3].strip() if len(row) > 3 else ""
        folder = table.resolve().parent
        limit = timeout if cap is None else min(timeout, cap)
        yield Instance(folder.name, folder / network, folder / query, limit, expected)


def records(folder: Path) -> dict[str, Record]:
    """What a folder has, by key; it is only read, also while somebody writes to it.

    Raises:
        RunError: a line that is no record. StorageError: it cannot be read.
    """
    path, found = folder / RECORDS, {}
    with typed_errors(path):
        whole = path.read_bytes().rpartition(b"\n")[0]  # a line cut short was not finished
    for line in whole.splitlines():
        try:
            record = Record(**json.loads(line))
        except (ValueError, TypeError) as error:
            start = line[:60].decode(errors="replace")
            raise RunError(f"{path} has a line that is no record: {start}") from error
        found[record.key] = record
    return found


class Ledger:
    """Records of a folder, one a line, each on the disk before the next instance begins.

    Beside them it says which versions and what machine it was begun with.

    Raises:
        RunError: a line that is no record.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / RECORDS
        self.records: dict[str, Record] = {}
        self._whole = False
        if self.path.exists():
            self.records = records(folder)
            return
        with typed_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            text = json.dumps(environment(), indent=1) + "\n"
            write_atomically(folder / BEGUN, text.encode())

    def moved(self) -> list[str]:
        """What is another version or machine now than when it was begun, as lines.

        Empty where it was begun now, and where nobody says what it was begun with.
        """
        try:
            begun = json.loads((self.path.parent / BEGUN).read_bytes())
            was = begun | begun["packages"]
        except (OSError, ValueError, TypeError, KeyError):
            return []
        now = environment()
        now |= now["packages"]
        names = [name for name in {**was, **now} if name != "packages"]
        return [
            f"{name} {was.get(name)}, now {now.get(name)}"
            for name in names
            if was.get(name) != now.get(name)
        ]

    def add(self, record: Record) -> None:
        """Keep a record; it is on the disk when this returns."""
        with typed_errors(self.path), self.path.open("ab") as file:
            if not self._whole:
                self._cut(file.tell())
                self._whole = True
            file.write(json.dumps(asdict(record)).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self.records[record.key] = record

    def _cut(self, size: int) -> None:
        """Drop a last line that was not finished, before anything is written behind it."""
        end = self.path.read_bytes().rfind(b"\n") + 1
        if end < size:
            os.truncate(self.path, end)


def solve(
    instances: Sequence[Instance],
    ledger: Ledger,
    told: Callable[[Record], None],
    command: Sequence[str] | None = None,
) -> list[Record]:
    """Solve what the ledger does not know yet, one after the other, each in a process of its own.

    Files are hashed once, and are not to change meanwhile.

    Args:
        instances: see `Instance`.
        ledger: see `Ledger`.
        told: called with every new record.
        command: in place of this interpreter's ``phalanx verify``.

    Raises:
        ConfigurationError: an instance twice, or one whose files have changed since.
    """
    keys = [instance.key for instance in instances]
    if len(set(keys)) < len(keys):
        raise ConfigurationError("an instance appears twice in the tables")
    hashed = cache(file_digest)  # one network is in hundreds of instances
    _check_known(instances, ledger, hashed)
    base = [*(command or (sys.executable, "-m", "phalanx.cli.main")), "verify"]
    for instance in instances:
        if instance.key not in ledger.records:
            record = _solved(instance, base, instance.digest(hashed))
            ledger.add(record)
            told(record)
    return [ledger.records[key] for key in keys]


def _check_known(
    instances: Sequence[Instance], ledger: Ledger, hashed: Callable[[Path], str]
) -> None:
    for instance in instances:
        known = ledger.records.get(instance.key)
        if known is not None and known.digest not in ("", instance.digest(hashed)):
            raise ConfigurationError(
                f"{instance.key} was solved of other files",
                why="the network or the property has changed since",
                repair="another --out",
            )


def _solved(instance: Instance, base: list[str], digest: str) -> Record:
    words = [*base, str(instance.network), str(instance.query), "--timeout", str(instance.timeout)]
    words += instance.options
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            out, err = process.communicate(timeout=instance.timeout + OVERRUN)
            first = out.partition("\n")[0].strip()
            answer = first if process.returncode == 0 and first else "error"
            note = (err.strip().splitlines() or [""])[-1]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            answer, note = "overran", ""
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Record(
        instance.key,
        instance.benchmark,
        answer,
        instance.expected,
        time.monotonic() - started,
        cpu,
        note[:300],
        digest,
    )


@dataclass(frozen=True)
class Summary:
    """One benchmark, or all of them.

    Attributes:
        name: of the benchmark.
        instances, sat, unsat, wrong, undecided, failed: counts; wrong ones are among sat and unsat.
        cpu, seconds: of all its processes together.
    """

    name: str
    instances: int
    sat: int
    unsat: int
    wrong: int
    undecided: int
    failed: int
    cpu: float
    seconds: float


def summaries(records: Sequence[Record]) -> list[Summary]:
    """By benchmark in order, and the total last."""
    names = list(dict.fromkeys(record.benchmark for record in records))
    parts = [_summary(name, [r for r in records if r.benchmark == name]) for name in names]
    return [*parts, _summary("total", records)]


def _summary(name: str, records: Sequence[Record]) -> Summary:
    answers = [record.answer for record in records]
    failed = sum(answer in FAILED for answer in answers)
    return Summary(
        name,
        len(records),
        answers.count("sat"),
        answers.count("unsat"),
        sum(record.wrong for record in records),
        sum(answer not in SOLVED for answer in answers) - failed,
        failed,
        sum(record.cpu for record in records),
        sum(record.seconds for record in records),
    )
