"""Which mutants `run.py` tries, and which tests it asks about each, in which order."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from operators import Mutant
from project import Coverage

TIERS = (0.3, 2.0)
"""Seconds: tests up to the first run first, then those up to the second, then the others."""


def ranked(modules: dict[str, list[Mutant]], seed: int) -> list[Mutant]:
    """The order in which mutants are tried; the first N are the sample of size N.

    Modules take turns, and within a module operators; which module comes first, and which mutant
    of an operator, depends on their names and the seed, so an edit moves few others.
    """

    def drawn(name: str) -> str:
        return blake2b(f"{seed} {name}".encode(), digest_size=8).hexdigest()

    def key(mutant: Mutant) -> str:
        return drawn(mutant.id)

    def turns(groups: Sequence[Sequence[Mutant]]) -> Iterator[Mutant]:
        rounds = chain.from_iterable(zip_longest(*groups))
        return (mutant for mutant in rounds if mutant is not None)

    columns = []
    for _, mutants in sorted(modules.items(), key=lambda pair: drawn(pair[0])):
        operators: dict[str, list[Mutant]] = defaultdict(list)
        for mutant in sorted(mutants, key=key):
            operators[mutant.edit.operator].append(mutant)
        columns.append(list(turns(list(operators.values()))))
    return list(turns(columns))


def relevant(mutant: Mutant, coverage: Coverage, users: set[str]) -> list[str]:
    """The tests that run a mutant's statement, in the order in which they are asked.

    What runs at import concerns every test that runs a line of the module or of one of its
    ``users``, and every test in a file that imports from it.
    """
    if mutant.at_import:
        found = [
            test
            for test, seen in coverage.items()
            if _file(test) in users or any(f"src/{file}" in users for file in seen["lines"])
        ]
    else:
        first, last = mutant.lines
        found = [
            test
            for test, seen in coverage.items()
            if any(first <= line <= last for line in seen["lines"].get(mutant.file, ()))
        ]
    stem = Path(mutant.file).stem.strip("_")
    total: Counter[str] = Counter()
    for test in found:
        total[_file(test)] += coverage[test]["seconds"]

    def key(test: str) -> tuple[Any, ...]:
        file, seconds = _file(test), coverage[test]["seconds"]
        tier = sum(seconds > limit for limit in TIERS)
        # Tests of one file stay together within a tier: they share fixtures.
        return tier, file not in users, stem not in Path(file).stem, total[file], file, seconds

    return sorted(found, key=key)


def _file(test: str) -> str:
    return test.split("::", 1)[0]


def users_of(mutant: Mutant, texts: Mapping[str, str]) -> set[str]:
    """Files (from the root) that import from a mutant's module, and its own."""
    module = mutant.file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    parent, _, name = module.rpartition(".")
    here = rf"(from|import) {re.escape(module)}\b(?!\.)"
    above = rf"from {re.escape(parent)} import [^\n]*\b{re.escape(name)}\b"
    wanted = re.compile(rf"^\s*({here}|{above})", re.MULTILINE)
    return {f"src/{mutant.file}", *(file for file, text in texts.items() if wanted.search(text))}
