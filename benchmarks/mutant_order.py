"""Which mutants `mutants.py` tries, and which tests it asks about each, in which order."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from mutant_copy import Coverage
from mutant_operators import Mutant

TIERS = (0.3, 2.0)
"""Seconds: tests up to the first run first, then those up to the second, then the others."""


def ranked(modules: dict[str, list[Mutant]], seed: int) -> list[Mutant]:
    """The order in which mutants are tried; the first N are the sample of size N.

    Modules take turns, and within a module operators; which mutant of an operator comes first
    depends on its id and the seed, so an edit moves few others.
    """

    def key(mutant: Mutant) -> str:
        return blake2b(f"{seed} {mutant.id}".encode(), digest_size=8).hexdigest()

    def turns(groups: Sequence[Sequence[Mutant]]) -> Iterator[Mutant]:
        rounds = chain.from_iterable(zip_longest(*groups))
        return (mutant for mutant in rounds if mutant is not None)

    columns = []
    for mutants in modules.values():
        operators: dict[str, list[Mutant]] = defaultdict(list)
        for mutant in sorted(mutants, key=key):
            operators[mutant.edit.operator].append(mutant)
        columns.append(list(turns(list(operators.values()))))
    return list(turns(columns))


def relevant(mutant: Mutant, coverage: Coverage, users: set[str]) -> list[str]:
    """The tests that run a mutant's statement, in the order in which they are asked.

    What runs at import concerns every test that runs a line of the module, or of one of the
    ``users`` that import from it.
    """
    files = users if mutant.at_import else {mutant.file}
    lines = None if mutant.at_import else set(range(mutant.lines[0], mutant.lines[1] + 1))
    found = [
        test
        for test, seen in coverage.items()
        if any(
            lines is None or lines.intersection(seen["lines"][file])
            for file in files.intersection(seen["lines"])
        )
    ]
    stem = Path(mutant.file).stem.strip("_")
    total: Counter[str] = Counter()
    for test in found:
        total[test.split("::")[0]] += coverage[test]["seconds"]

    def key(test: str) -> tuple[Any, ...]:
        file, seconds = test.split("::", 1)[0], coverage[test]["seconds"]
        tier = sum(seconds > limit for limit in TIERS)
        # Tests of one file stay together within a tier: they share fixtures.
        return tier, stem not in Path(file).stem, total[file], file, seconds

    return sorted(found, key=key)


def users_of(file: str, source: Path, files: Sequence[str]) -> set[str]:
    """A module and those that import from it."""
    module = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    wanted = re.compile(rf"^\s*(from|import) {re.escape(module)}\b(?!\.)", re.MULTILINE)
    return {file, *(f for f in files if wanted.search((source / f).read_text(encoding="utf-8")))}
