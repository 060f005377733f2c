"""What became of the mutants of `run.py`: results on disk, totals, survivors."""

from __future__ import annotations

import difflib
import json
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from operators import Mutant
from project import CAUGHT, SURVIVED, TIMEOUT, Record

GOAL = 0.95
KINDS = {
    "equivalent": "no result depends on it",
    "choice": "another choice, as sound as this one",
    "time": "costs time or memory alone",
    "conservative": "proves less, never more",
    "unreachable": "cannot run on this machine",
    "message": "what an error says",
}
"""Beginnings of an explanation; what proves too much has none and must be caught by a test."""


class Log:
    """Results as they come, one line each."""

    def __init__(self, path: Path, digest: str, *, retry: bool) -> None:
        self.path, self.digest = path, digest
        self.records: dict[str, Record] = {}
        lines = path.read_text().splitlines() if path.exists() else []
        for record in map(json.loads, lines):
            if record["digest"] == digest or (retry and record["status"] != SURVIVED):
                self.records[record["id"]] = record

    def add(self, mutant: Mutant, record: Record) -> None:
        """Keep a result."""
        record = {"id": mutant.id, "digest": self.digest, **record}
        self.records[mutant.id] = record
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")


def place(mutant: Mutant) -> str:
    """Where to look."""
    return f"src/{mutant.file}:{mutant.line}"


def diff(mutant: Mutant) -> list[str]:
    """The lines that change, with - and +."""
    before, after = mutant.source.splitlines(), mutant.changed.splitlines()
    lines = difflib.unified_diff(before, after, n=0)
    return [line for line in list(lines)[2:] if not line.startswith("@@")]


def report(sample: list[Mutant], log: Log, explained: dict[str, str]) -> dict[str, Any]:
    """Totals and survivors."""
    for name, why in explained.items():
        if why.split(":")[0] not in KINDS:
            raise SystemExit(f"the explanation of {name} begins with none of {', '.join(KINDS)}:")
    by_status: dict[str, list[Mutant]] = defaultdict(list)
    for mutant in sample:
        by_status[log.records[mutant.id]["status"]].append(mutant)
    caught = len(by_status[CAUGHT]) + len(by_status[TIMEOUT])
    rows = []
    for mutant in sorted(by_status[SURVIVED], key=lambda m: (m.file, m.line)):
        row = {
            "id": mutant.id,
            "place": place(mutant),
            "function": mutant.function,
            "operator": mutant.edit.operator,
            "diff": diff(mutant),
            "tests": log.records[mutant.id]["tests"],
            "explanation": explained.get(mutant.id, ""),
        }
        rows.append(row)
    kinds = Counter(row["explanation"].split(":")[0] or "UNEXPLAINED" for row in rows)
    differ = len(sample) - kinds["equivalent"]
    return {
        "mutants": len(sample),
        "caught": caught,
        "of_them_by_timeout": len(by_status[TIMEOUT]),
        "survived": len(rows),
        "share_caught": caught / max(len(sample), 1),
        "share_caught_of_those_that_are_not_equivalent": caught / max(differ, 1),
        "survivors_by_kind": dict(sorted(kinds.items())),
        "of_other_versions": sum(log.records[m.id]["digest"] != log.digest for m in sample),
        "by_operator": _table(sample, log, lambda m: m.edit.operator),
        "by_module": _table(sample, log, lambda m: m.file),
        "timeouts": [f"{place(m)} {m.edit.operator}" for m in by_status[TIMEOUT]],
        "survivors": rows,
    }


def _table(sample: list[Mutant], log: Log, name: Callable[[Mutant], str]) -> dict[str, str]:
    """Caught of all, by something."""
    every = Counter(map(name, sample))
    survived = (m for m in sample if log.records[m.id]["status"] == SURVIVED)
    left = Counter(map(name, survived))
    return {key: f"{n - left[key]} of {n}" for key, n in sorted(every.items())}


def show(result: dict[str, Any]) -> bool:
    """Print it; whether the gate is passed."""
    for row in result["survivors"]:
        print(f"\nsurvived: {row['id']} {row['place']} {row['function']} ({row['operator']})")
        print("\n".join(f"    {line}" for line in row["diff"]))
        if not row["tests"]:
            print("    no test runs this line")
        print(f"    {row['explanation'] or 'UNEXPLAINED'}")
    share = result["share_caught_of_those_that_are_not_equivalent"]
    print(
        f"\n{result['mutants']} mutants: {result['caught']} caught"
        f" ({result['of_them_by_timeout']} by timeout), {result['survived']} survived;"
        f" {100 * result['share_caught']:.1f}% of all, {100 * share:.1f}% of those that are not"
        f" equivalent; survivors: {result['survivors_by_kind']}"
    )
    return share >= GOAL and "UNEXPLAINED" not in result["survivors_by_kind"]
