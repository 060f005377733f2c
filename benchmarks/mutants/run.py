"""Would the tests notice? Mechanical mutants of the code, each given to the tests that run it.

A mutant is one small change (see `operators`). Which ones are tried depends on the seed and
on their text alone: every module gives the same number, and every operator of a module its turn.
One pass over the tests records which lines each of them runs; a mutant is then given to those that
run its statement, the quickest first, until one fails. All of that happens in copies; the work
tree is never changed. A survivor needs a reviewed explanation in ``explained.json``.

    python benchmarks/mutants/run.py --out FOLDER [--rooms smoothing] [--count 100] [--jobs 1]

The same command continues where it was interrupted. The exit code is 0 only if enough mutants are
caught and every survivor is explained.
"""

from __future__ import annotations

import argparse
import json
import platform
import queue
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from operators import Mutant
from order import ranked, relevant, users_of
from project import NO_PROGRAM, SURVIVED, Copy, Coverage, Project, Record
from report import GOAL, Log, place, report, show

HERE = Path(__file__).resolve().parent


def try_all(
    project: Project, order: list[Mutant], options: argparse.Namespace
) -> tuple[list[Mutant], Log]:
    """The mutants of the sample and what became of them; those that are no program don't count."""
    log = Log(options.out / "results.jsonl", project.digest(), retry=options.retry)
    with tempfile.TemporaryDirectory() as folder:
        copies: queue.SimpleQueue[Copy] = queue.SimpleQueue()
        for number in range(options.jobs):
            copies.put(Copy(project, Path(folder).resolve() / str(number)))
        coverage = _coverage(project, copies, options.out / "coverage.json")
        texts = project.texts()

        def ask(mutant: Mutant) -> Record:
            tests = relevant(mutant, coverage, users_of(mutant, texts))
            if options.thorough:
                tests += [test for test in coverage if test not in set(tests)]
            if not tests:
                return {"status": SURVIVED, "by": "", "tests": 0}
            copy = copies.get()
            try:
                return copy.ask(mutant, tests, coverage)
            finally:
                copies.put(copy)

        sample: list[Mutant] = []
        with ThreadPoolExecutor(options.jobs) as pool:
            while missing := options.count - len(sample):
                batch, order = order[:missing], order[missing:]
                if not batch:
                    break
                running = {pool.submit(ask, m): m for m in batch if m.id not in log.records}
                for done in as_completed(running):
                    mutant, record = running[done], done.result()
                    log.add(mutant, record)
                    print(
                        f"{record['status']:10} {place(mutant)} {mutant.edit.operator}"
                        f"  {record['by']}",
                        flush=True,
                    )
                sample += [m for m in batch if log.records[m.id]["status"] != NO_PROGRAM]
    return sample, log


def _coverage(project: Project, copies: queue.SimpleQueue[Copy], path: Path) -> Coverage:
    """What each test runs; files of tests that are as they were are not recorded again."""
    digests = project.test_digests()
    kept = json.loads(path.read_text()) if path.exists() else {}
    stale = [file for file, digest in digests.items() if kept.get(file, {}).get("is") != digest]
    if stale:
        print(f"recording what the tests of {len(stale)} files run", flush=True)
        copy = copies.get()
        found = copy.record(stale)
        copies.put(copy)
        for file in stale:
            tests = {test: seen for test, seen in found.items() if test.split("::", 1)[0] == file}
            kept[file] = {"is": digests[file], "tests": tests}
        path.write_text(json.dumps(kept))
    return {test: seen for file in digests for test, seen in kept[file]["tests"].items()}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="where results are kept")
    parser.add_argument("--rooms", nargs="+", default=["smoothing"], help="of the package")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--tests", nargs="+", help="for pytest; default: those of the rooms")
    parser.add_argument(
        "--retry", action="store_true", help="after new tests: ask survivors again, keep the rest"
    )
    parser.add_argument(
        "--thorough", action="store_true", help="also ask tests that do not run the line"
    )
    parser.add_argument("--root", type=Path, default=HERE.parents[1])
    parser.add_argument("--package", default="phalanx")
    parser.add_argument("--explained", type=Path, default=HERE / "explained.json")
    parser.add_argument("--result", type=Path, default=HERE.parent / "results" / "mutants.json")
    return parser.parse_args(arguments)


def project_of(options: argparse.Namespace) -> Project:
    """What the options name; by default the tests of the rooms, soundness, and doctests."""
    root, rooms = options.root.resolve(), options.rooms
    tests = options.tests or [
        name
        for name in (
            *(f"tests/{room}" for room in rooms),
            *("tests/soundness", "tests/evaluation"),
            *(f"src/{options.package}/{room}" for room in rooms),
        )
        if (root / name).exists()
    ]
    return Project(root, options.package, tuple(rooms), tuple(tests))


def main(arguments: Sequence[str] | None = None) -> int:
    """Try the sample, print what survived, and keep the figures; 0 where the gate is passed."""
    options = parse(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    project = project_of(options)
    modules = project.mutants()
    sample, log = try_all(project, ranked(modules, options.seed), options)
    explained: dict[str, str] = {}
    if options.explained.exists():
        explained = json.loads(options.explained.read_text())
    result = {
        "command": "python benchmarks/mutants/run.py --out FOLDER --rooms "
        f"{' '.join(options.rooms)} --count {options.count} --seed {options.seed}",
        "python": platform.python_version(),
        "goal": GOAL,
        "possible": sum(map(len, modules.values())),
        "tests": project.tests,
        **report(sample, log, explained),
    }
    options.result.parent.mkdir(exist_ok=True)
    options.result.write_text(json.dumps(result, indent=1) + "\n")
    passed = show(result)
    gone = explained.keys() - {mutant.id for mutants in modules.values() for mutant in mutants}
    if gone:
        print(f"explained, and no mutants of these rooms: {', '.join(sorted(gone))}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
