"""Small, mechanical changes of Python source: what `run.py` plants and tests must notice.

Each mutant replaces one stretch of the text, so that its diff is a line or two. Docstrings,
annotations, decorators, imports, ``__all__``, protocols, strings and the arguments of ``raise``
are left alone: no result depends on them.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

COMPARISONS: dict[type[ast.cmpop], tuple[str, tuple[str, ...]]] = {
    ast.Lt: ("<", ("<=", ">=")),
    ast.LtE: ("<=", ("<", ">")),
    ast.Gt: (">", (">=", "<=")),
    ast.GtE: (">=", (">", "<")),
    ast.Eq: ("==", ("!=",)),
    ast.NotEq: ("!=", ("==",)),
    ast.Is: ("is", ("is not",)),
    ast.IsNot: ("is not", ("is",)),
    ast.In: ("in", ("not in",)),
    ast.NotIn: ("not in", ("in",)),
}
ARITHMETIC: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "/"),
    ast.Mod: ("%", "//"),
    ast.Pow: ("**", "*"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
}
PAIRS = ("min max", "any all", "lower upper", "floor ceil", "argmin argmax", "minimum maximum")
OTHER = {a: b for pair in PAIRS for a, b in (pair.split(), pair.split()[::-1])}
LEVELS = ("alpha", "beta", "delta", "sigma")
"""Names whose value decides what is proven; doubled."""

Scope = ast.FunctionDef | ast.AsyncFunctionDef


class Edit(NamedTuple):
    """Text ``[start, end)`` of a module replaced."""

    operator: str
    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Mutant:
    """One change of one module.

    Attributes:
        id: the same after edits anywhere but in the changed statement.
        file: relative to the source folder.
        function: qualified name, ``<module>`` outside of all.
        lines: first and last line of the statement, without the block below it.
        at_import: the statement runs when the module is imported, so no test is seen to run it.
        source: text of the unchanged module.
    """

    id: str
    file: str
    function: str
    line: int
    lines: tuple[int, int]
    at_import: bool
    edit: Edit
    source: str = field(repr=False)

    @property
    def changed(self) -> str:
        """Text of the changed module."""
        return self.source[: self.edit.start] + self.edit.text + self.source[self.edit.end :]


def mutants_of(path: Path, source_folder: Path) -> list[Mutant]:
    """All mutants of a module, in order; what is the same program is left out."""
    source = path.read_text(encoding="utf-8")
    original = ast.dump(ast.parse(source))
    found = []
    for mutant in _Module(source, path.relative_to(source_folder).as_posix()).mutants():
        try:
            changed = ast.dump(ast.parse(mutant.changed))
        except SyntaxError:
            continue
        if changed != original:
            found.append(mutant)
    return found


class _Module:
    def __init__(self, source: str, file: str) -> None:
        self.source, self.file = source, file
        self._lines = source.splitlines(keepends=True)
        self._starts = [0]
        for line in self._lines:
            self._starts.append(self._starts[-1] + len(line))
        self._seen: Counter[str] = Counter()

    def mutants(self) -> Iterator[Mutant]:
        yield from self._block(ast.parse(self.source).body, "<module>", at_import=True)

    def _block(
        self, body: Sequence[ast.stmt], function: str, *, at_import: bool
    ) -> Iterator[Mutant]:
        for statement in body:
            if _left_alone(statement):
                continue
            inner = function
            if isinstance(statement, Scope | ast.ClassDef):
                outer = "" if function == "<module>" else f"{function}."
                inner = f"{outer}{statement.name}"
            runs = at_import or isinstance(statement, Scope)
            for edit in self._edits(statement):
                yield self._mutant(edit, statement, inner, at_import=runs)
            below = at_import and not isinstance(statement, Scope)
            for block in _blocks(statement):
                yield from self._block(block, inner, at_import=below)

    def _mutant(self, edit: Edit, statement: ast.stmt, function: str, *, at_import: bool) -> Mutant:
        start, end = self._header(statement)
        first = self.source.count("\n", 0, start) + 1
        words = (self.source[start:end], self.source[edit.start : edit.end], edit.text)
        key = "\n".join([self.file, function, edit.operator, *(" ".join(w.split()) for w in words)])
        # Where one statement holds the same text twice, they are numbered.
        self._seen[key] += 1
        name = blake2b(f"{key}\n{self._seen[key]}".encode(), digest_size=5).hexdigest()
        return Mutant(
            id=name,
            file=self.file,
            function=function,
            line=self.source.count("\n", 0, edit.start) + 1,
            lines=(first, self.source.count("\n", 0, end) + 1),
            at_import=at_import,
            edit=edit,
            source=self.source,
        )

    def _header(self, statement: ast.stmt) -> tuple[int, int]:
        """A statement without its blocks."""
        start, end = self._span(statement)
        below = [self._span(block[0])[0] for block in _blocks(statement) if block]
        if below:
            end = start + len(self.source[start : min(below)].rstrip())
        return start, end

    def _span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        end_line, end_column = node.end_lineno or node.lineno, node.end_col_offset or 0
        return self._at(node.lineno, node.col_offset), self._at(end_line, end_column)

    def _at(self, line: int, column: int) -> int:
        # The parser counts bytes.
        text = self._lines[line - 1].encode()[:column].decode()
        return self._starts[line - 1] + len(text)

    def _text(self, node: ast.expr) -> str:
        start, end = self._span(node)
        return self.source[start:end]

    def _edits(self, statement: ast.stmt) -> Iterator[Edit]:
        """Changes of a statement without those of its blocks."""
        yield from self._of_statement(statement)
        if not isinstance(statement, ast.Raise):
            for expression in _expressions(statement):
                yield from self._inside(expression)

    def _of_statement(self, statement: ast.stmt) -> Iterator[Edit]:
        span = self._span(statement)
        if _droppable(statement):
            yield Edit("drop statement", *span, "pass")
        if isinstance(statement, ast.Return) and statement.value is not None:
            yield Edit("return nothing", *span, "return None")
        if isinstance(statement, ast.If):
            yield from self._negated(statement.test)
        if isinstance(statement, ast.AugAssign) and type(statement.op) in ARITHMETIC:
            sign, other = ARITHMETIC[type(statement.op)]
            between = self._span(statement.target)[1], self._span(statement.value)[0]
            yield from self._sign(between, f"{sign}=", f"{other}=", "arithmetic")

    def _inside(self, node: ast.AST) -> Iterator[Edit]:
        if isinstance(node, ast.JoinedStr):
            return
        if isinstance(node, ast.expr):
            yield from self._of_expression(node)
        if _asks_for_type(node):
            return
        for child in ast.iter_child_nodes(node):
            yield from self._inside(child)

    def _of_expression(self, node: ast.expr) -> Iterator[Edit]:
        match node:
            case ast.Compare():
                yield from self._comparison(node)
            case ast.BinOp():
                yield from self._arithmetic(node)
            case ast.BoolOp():
                yield from self._and_or(node)
            case ast.UnaryOp():
                yield from self._sign_dropped(node)
            case ast.Name() | ast.Attribute():
                yield from self._name(node)
            case ast.Call():
                yield from self._call(node)
            case ast.IfExp():
                yield from self._negated(node.test)
            case ast.Constant():
                for text in _other_constants(node.value):
                    yield Edit("constant", *self._span(node), text)
            case _:
                yield from self._of_parts(node)

    def _of_parts(self, node: ast.expr) -> Iterator[Edit]:
        """Bounds of slices and conditions of comprehensions."""
        for part in getattr(node, "generators", ()):
            for test in part.ifs:
                yield from self._negated(test)
        if isinstance(node, ast.Slice):
            for bound in (node.lower, node.upper):
                if bound is not None and not isinstance(bound, ast.Constant):
                    yield Edit("bounds", *self._span(bound), f"{self._text(bound)} + 1")

    def _sign_dropped(self, node: ast.UnaryOp) -> Iterator[Edit]:
        sign = {ast.Not: "not", ast.USub: "minus", ast.Invert: "~"}.get(type(node.op))
        if sign and not isinstance(node.operand, ast.Constant):
            yield Edit(f"drop {sign}", *self._span(node), f"({self._text(node.operand)})")

    def _negated(self, test: ast.expr) -> Iterator[Edit]:
        # The negation of a comparison or of a `not` is made elsewhere.
        one = isinstance(test, ast.Compare) and len(test.ops) == 1
        if not one and not (isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)):
            yield Edit("negate", *self._span(test), f"not ({self._text(test)})")

    def _comparison(self, node: ast.Compare) -> Iterator[Edit]:
        for (left, right), kind in zip(
            pairwise([node.left, *node.comparators]), node.ops, strict=True
        ):
            sign, others = COMPARISONS.get(type(kind), ("", ()))
            between = self._span(left)[1], self._span(right)[0]
            for other in others:
                yield from self._sign(between, sign, other, "comparison")

    def _arithmetic(self, node: ast.BinOp) -> Iterator[Edit]:
        strings = (ast.JoinedStr, ast.Constant)
        joined = [part for part in (node.left, node.right) if isinstance(part, strings)]
        if type(node.op) not in ARITHMETIC or any(
            isinstance(part, ast.JoinedStr) or isinstance(part.value, str) for part in joined
        ):
            return
        sign, other = ARITHMETIC[type(node.op)]
        between = self._span(node.left)[1], self._span(node.right)[0]
        yield from self._sign(between, sign, other, "arithmetic")
        yield Edit("drop operand", *self._span(node), f"({self._text(node.left)})")

    def _and_or(self, node: ast.BoolOp) -> Iterator[Edit]:
        sign, other = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        start, end = self._span(node)
        text, at = "", start
        for left, right in pairwise(node.values):
            between = self._span(left)[1], self._span(right)[0]
            for edit in self._sign(between, sign, other, ""):
                text, at = text + self.source[at : edit.start] + other, edit.end
        yield Edit("and/or", start, end, text + self.source[at:end])

    def _sign(
        self, between: tuple[int, int], sign: str, other: str, operator: str
    ) -> Iterator[Edit]:
        """The sign between two operands, wherever it stands among brackets and comments."""
        start, end = between
        for found in re.finditer(rf"#[^\n]*|{re.escape(sign)}", self.source[start:end]):
            if not found[0].startswith("#"):
                yield Edit(operator, start + found.start(), start + found.end(), other)
                return

    def _name(self, node: ast.Name | ast.Attribute) -> Iterator[Edit]:
        name = node.id if isinstance(node, ast.Name) else node.attr
        start, end = self._span(node)
        if not isinstance(node.ctx, ast.Load):
            return
        if name in OTHER:
            yield Edit("other name", end - len(name), end, OTHER[name])
        if name in LEVELS:
            yield Edit("double level", start, end, f"(2 * {self.source[start:end]})")

    def _call(self, node: ast.Call) -> Iterator[Edit]:
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        plain = [a for a in node.args if not isinstance(a, ast.Starred)]
        if name == "nextafter" and plain:
            value, whole = self._text(plain[0]), self._text(node)
            yield Edit("direction", *self._span(node), f"(2 * ({value}) - {whole})")
            yield Edit("direction", *self._span(node), f"({value})")
        if name == "range" and plain and not isinstance(plain[-1], ast.Constant):
            yield Edit("bounds", *self._span(plain[-1]), f"{self._text(plain[-1])} + 1")
        if len(plain) == len(node.args) == 2 and name not in ("isinstance", "issubclass"):
            (start, first), (second, end) = self._span(plain[0]), self._span(plain[1])
            text = self.source[second:end] + self.source[first:second] + self.source[start:first]
            yield Edit("swap arguments", start, end, text)


def _left_alone(statement: ast.stmt) -> bool:
    match statement:
        case ast.Import() | ast.ImportFrom() | ast.Pass() | ast.Global() | ast.Nonlocal():
            return True
        case ast.Expr(value=ast.Constant()):  # docstrings and ...
            return True
        case ast.Assign(targets=[ast.Name(id="__all__")]):
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.ClassDef():
            return any(
                isinstance(base, ast.Name) and base.id == "Protocol" for base in statement.bases
            )
    return False


def _droppable(statement: ast.stmt) -> bool:
    """Without it, the module still means something."""
    match statement:
        case ast.AugAssign() | ast.Raise() | ast.Break() | ast.Continue():
            return True
        case ast.Expr(value=ast.Call() | ast.YieldFrom()):
            return True
        case ast.Assign():
            return all(isinstance(t, ast.Attribute | ast.Subscript) for t in statement.targets)
    return False


def _expressions(statement: ast.stmt) -> Iterator[ast.expr]:
    """The expressions of a statement itself that decide something."""
    match statement:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            given = statement.args
            yield from (d for d in [*given.defaults, *given.kw_defaults] if d is not None)
        case ast.ClassDef() | ast.Try():
            return
        case ast.AnnAssign():
            yield from [statement.value] if statement.value is not None else []
        case ast.With() | ast.AsyncWith():
            yield from (item.context_expr for item in statement.items)
        case ast.Match():
            yield statement.subject
        case _:
            for child in ast.iter_child_nodes(statement):
                if isinstance(child, ast.expr):
                    yield child


def _blocks(statement: ast.stmt) -> list[list[ast.stmt]]:
    blocks = [getattr(statement, name, []) for name in ("body", "orelse", "finalbody")]
    blocks[1:1] = [part.body for part in getattr(statement, "handlers", [])]
    blocks[1:1] = [part.body for part in getattr(statement, "cases", [])]
    return [block for block in blocks if block]


def _asks_for_type(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and getattr(node.func, "id", "") in (
        "isinstance",
        "issubclass",
    )


def _other_constants(value: object) -> tuple[str, ...]:
    if isinstance(value, bool):
        return (str(not value),)
    if isinstance(value, int):
        return {0: ("1",), 1: ("0", "2")}.get(value, (str(value + 1), str(value - 1)))
    if isinstance(value, float):
        return (repr(2 * value), repr(value / 2)) if value else ("1.0",)
    return ()
