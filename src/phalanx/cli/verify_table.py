"""``phalanx verify --table``: every instance of a benchmark, resumable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from phalanx.cli.console import answer_json, answer_table, log
from phalanx.errors import DataError, RequirementUnmet, SampleErrors

if TYPE_CHECKING:
    from phalanx.evaluation.instances import Record


def solve_tables(
    tables: list[Path],
    out: Path | None,
    words: tuple[str, ...] = (),
    *,
    cap: float | None,
    every: int,
    limit: int | None,
    json: bool,
) -> None:
    """Solve, then print a summary and, last of all, where the records are.

    Args:
        tables, out: see `read_tables`, `Ledger`.
        words: options of ``phalanx verify`` for every instance.
        cap, every, limit: which instances, and for how long at most.
        json: as JSON.

    Raises:
        RequirementUnmet: an answer is not the one the table expects. SampleErrors: some ended in
            an error.
    """
    from phalanx.evaluation.instances import FAILED, Ledger, read_tables, solve
    from phalanx.runs.provenance import new_run_folder

    listed = read_tables(tables, cap)[:: max(1, every)][:limit]
    instances = [replace(instance, options=words) for instance in listed]
    if not instances:
        raise DataError(f"{tables[0]} has no instances")
    ledger = Ledger(out or new_run_folder("verify"))
    if moved := ledger.moved():
        log(f"warning: {ledger.path.parent} was begun with {'; '.join(moved)}")

    def told(record: Record) -> None:
        log(
            f"{len(ledger.records)}/{len(instances)} {record.benchmark} {record.answer}"
            f"{' WRONG' if record.wrong else ''} {record.seconds:.1f} s {record.key}"
        )

    records = solve(instances, ledger, told)
    answer_summaries(records, json=json)
    log(str(ledger.path.parent))
    wrong = [record.key for record in records if record.wrong]
    failed = [record.key for record in records if record.answer in FAILED]
    if wrong:
        problem = RequirementUnmet(f"answers that the table says are wrong: {', '.join(wrong)}")
        log(f"error: {problem}")
        raise typer.Exit(problem.exit_code)
    if failed:
        raise SampleErrors(f"{len(failed)} instances ended in an error: {', '.join(failed[:5])}")


def answer_summaries(records: Sequence[Record], *, json: bool) -> None:
    """Answers by benchmark."""
    from phalanx.evaluation.instances import summaries

    found = summaries(records)
    if json:
        answer_json({"benchmarks": [asdict(part) for part in found]})
        return
    columns = ["benchmark", "instances", "sat", "unsat", "wrong", "undecided", "failed"]
    rows = [
        [part.name]
        + [str(getattr(part, name)) for name in columns[1:]]
        + [f"{part.cpu:.1f}", f"{part.seconds:.1f}"]
        for part in found
    ]
    answer_table("", [*columns, "cpu s", "wall s"], rows)
