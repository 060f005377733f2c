"""kill -9 at random moments, again and again, and the same command once more.

A certification by two processes, an attack and a training are killed, with their whole process
group, at random moments of their start and of their work. Whatever another process could read
before a kill must be there after it and at the end, and what the last, undisturbed command leaves
behind must be what a run that was never disturbed leaves behind.

Run ``python benchmarks/kill_resume.py [--kills 20]``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from phalanx.models.build import build
from phalanx.models.checkpoint import load, save
from phalanx.models.model import InputSpec, Model, ModelCard
from phalanx.runs.store import RunStore

RESULTS = Path(__file__).parent / "results"
SHAPE, IMAGES, SAMPLES, CHUNK = (1, 8, 8), 16, 4000, 40
EPOCHS, POINTS = 40, 160
COMMAND = (sys.executable, "-m", "phalanx.cli.main")
# The training is small, so it saves its state far more often than one that lasts for hours.
SAVING = (
    sys.executable,
    "-c",
    "from phalanx.training import loop; loop.SAVE_SECONDS = 0.1;"
    "from phalanx.cli.main import main; main()",
)
START_SECONDS = 4.0
"""About as long as a command needs before its first result."""

Rows = frozenset[tuple[object, ...]]


@dataclass(frozen=True)
class Job:
    """A resumable command.

    Attributes:
        words: the command line; the run folder is appended.
        out: the run folder.
        rows: what is on record there now.
        digest: what a finished run says.
    """

    name: str
    words: tuple[str, ...]
    out: Path
    rows: Callable[[Path], Rows]
    digest: Callable[[Path], str]

    def start(self) -> subprocess.Popen[bytes]:
        """The command in a process group of its own."""
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*self.words, "--out", str(self.out)],
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )

    @property
    def log(self) -> Path:
        """What the commands said."""
        return self.out.with_name(f"{self.out.name}.log")

    def finish(self) -> str:
        """Run to the end; the digest."""
        code = self.start().wait()
        if code:
            raise SystemExit(f"exit code {code}:\n{self.log.read_text()[-2000:]}")
        return self.digest(self.out)


@dataclass(frozen=True)
class Outcome:
    """What the kills did: rows on record at each of them, and rows that were lost or doubled."""

    job: str
    kills: int
    rows_at_each_kill: tuple[int, ...]
    rows_at_the_end: int
    lost: int
    doubled: int
    same_digest: bool


def certification(folder: Path, workers: int = 2) -> Job:
    """``phalanx certify --workers N`` on a dozen digits, in small chunks."""
    card = ModelCard("net", "mlp", {"hidden": [32]}, sigma=0.25)
    network = build("mlp", 10, SHAPE, key=1, hidden=[32]).eval()
    weights = save(Model(network, InputSpec(shape=SHAPE), 10, card), folder / "net")
    words: tuple[str, ...] = (
        *COMMAND,
        "certify",
        str(weights),
        "--limit",
        str(IMAGES),
        "--batch",
        "64",
    )
    words += ("--n", str(SAMPLES), "--n0", "50", "--set", f"chunk={CHUNK}")
    words += ("--workers", str(workers))
    return Job("certify", words, folder / "certify", chunks, run_digest)


def attack(folder: Path) -> Job:
    """``phalanx attack`` on digits, a few at a time."""
    card = ModelCard("net", "mlp", {"hidden": [32]}, sigma=0.0)
    network = build("mlp", 10, SHAPE, key=1, hidden=[32]).eval()
    weights = save(Model(network, InputSpec(shape=SHAPE), 10, card), folder / "net")
    words: tuple[str, ...] = (*COMMAND, "attack", str(weights), "--attack", "apgd-t")
    words += ("--eps", "0.02", "--limit", str(POINTS), "--batch", "4", "--steps", "20")
    return Job("attack", (*words, "--device", "cpu"), folder / "attack", broken, run_digest)


def training(folder: Path) -> Job:
    """``phalanx train`` of two small members."""
    words: tuple[str, ...] = (
        *SAVING,
        "train",
        "digits-gaussian",
        "--set",
        "model.options.hidden=[16]",
    )
    words += ("--members", "2", "--epochs", str(EPOCHS), "--workers", "1", "--device", "cpu")
    return Job("train", words, folder / "train", epochs, weights_digest)


def chunks(out: Path) -> Rows:
    """Every counted chunk, with its votes."""
    path = out / "records.sqlite"
    if not path.exists():
        return frozenset()
    try:
        with closing(sqlite3.connect(path, timeout=60)) as connection:
            return frozenset(connection.execute("SELECT * FROM chunks"))
    except sqlite3.OperationalError:  # made this moment, and empty
        return frozenset()


def broken(out: Path) -> Rows:
    """Every attacked point without its time, and every stored adversarial input."""
    path = out / "records.sqlite"
    if not path.exists():
        return frozenset()
    kept = ("image, verdict, correct, reason, details FROM certificates", "* FROM adversaries")
    found: set[tuple[object, ...]] = set()
    try:
        with closing(sqlite3.connect(path, timeout=60)) as connection:
            for columns in kept:
                found |= set(connection.execute(f"SELECT {columns}"))
    except sqlite3.OperationalError:  # made this moment: without a table, which then has no rows
        pass
    return frozenset(found)


def epochs(out: Path) -> Rows:
    """Every epoch on record, without its time."""
    path = out / "training.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    rows = [json.loads(line) for line in lines]
    return frozenset((tuple(row["members"]), row["epoch"], row["loss"]) for row in rows)


def run_digest(out: Path) -> str:
    """Counts, labels and certificates."""
    with RunStore.open(out) as store:
        return store.digest()


def weights_digest(out: Path) -> str:
    """The weights of every member."""
    members = sorted((out / "weights").glob("*.safetensors"))
    return " ".join(load(path).card.digest for path in members)


def undisturbed(job: Job) -> Job:
    """The same command, left alone to its end in a folder of its own."""
    alone = replace(job, out=job.out.with_name(f"{job.name}-undisturbed"))
    alone.finish()
    return alone


def kill_and_resume(job: Job, kills: int, alone: Job, seed: int = 0) -> Outcome:
    """Kill a job ``kills`` times, let it finish, and compare with one left ``alone``."""
    draw = random.Random(seed)
    total = len(alone.rows(alone.out))
    lost: Rows = frozenset()
    ever: Rows = frozenset()
    on_record = []
    for number in range(kills):
        # Far less than its share for each: processes are quick, and the last must have work left.
        seen = _killed(job, draw, while_starting=number % 5 == 4, gain=total // (8 * kills))
        kept = job.rows(job.out)
        lost, ever = lost | (seen - kept), ever | seen
        on_record.append(len(kept))
    same = job.finish() == alone.digest(alone.out)
    rows = job.rows(job.out)
    return Outcome(
        job=job.name,
        kills=kills,
        rows_at_each_kill=tuple(on_record),
        rows_at_the_end=len(rows),
        lost=len(lost | (ever - rows)),
        doubled=max(0, len(rows) - total),
        same_digest=same and rows == alone.rows(alone.out),
    )


def _killed(job: Job, draw: random.Random, *, while_starting: bool, gain: int) -> Rows:
    """Kill the job at a random moment; the rows that could be read just before."""
    process = job.start()
    if while_starting:
        time.sleep(draw.uniform(0, START_SECONDS))
    else:
        wanted = len(job.rows(job.out)) + draw.randint(1, max(gain, 1))
        while process.poll() is None and len(job.rows(job.out)) < wanted:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.05))
    seen = job.rows(job.out)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return seen


def main() -> None:
    """Kill all three, print one line each, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    kills = parser.parse_args().kills
    outcomes = []
    with tempfile.TemporaryDirectory() as folder:
        for job in (f(Path(folder)) for f in (certification, attack, training)):
            outcome = kill_and_resume(job, kills, undisturbed(job))
            outcomes.append(asdict(outcome))
            print(
                f"{job.name}: {kills} kills, {outcome.lost} rows lost, {outcome.doubled} doubled,"
                f" the digest {'equal to' if outcome.same_digest else 'OTHER THAN'} the"
                " undisturbed one's"
            )
    RESULTS.mkdir(exist_ok=True)
    result = {"command": f"python benchmarks/kill_resume.py --kills {kills}", "rows": outcomes}
    (RESULTS / "kill_resume.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
