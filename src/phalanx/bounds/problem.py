"""`Problem`: what a method is asked, and the registry of methods."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from phalanx.bounds.engine import BLOCK, Engine, Settings
from phalanx.bounds.ops import Box
from phalanx.bounds.options import Options
from phalanx.bounds.planes import Plane
from phalanx.bounds.region import Region
from phalanx.graph.ir import Graph
from phalanx.registry import Registry

LEAST_PART = 64
"""Elements of a batch that are bounded together, however large they are."""


@dataclass(frozen=True, eq=False)
class Between:
    """How entries of a value in between were bounded, for one element.

    Attributes:
        entry: their numbers ``(R,)``.
        places: parameters of curves ``(P, 2 R, 1, *shape)``, by name: of the lower bounds, then of
            those of the entries negated. Of the output's rows ``(P, R, 1, *shape)``.
    """

    entry: Tensor
    places: dict[str, Tensor]


@dataclass
class Trace:
    """What a method tells of how it found its bounds, to whoever checks them again.

    Attributes:
        backward: boxes in between were tightened by backward passes.
        parallel: lines below were parallel to those above.
        places: parameters of curves ``(P, S, B, *shape)`` in the last pass, by name.
        planes: what was used besides lines, by row and element.
        between: by element and node, how boxes in between were found where these were optimised,
            and, under its name, the output's rows.
        boxes: of all nodes, ``(B, *shape)``, where these were tightened by backward passes: they
            hold in the region, whatever is asked of the output.
        decided: whether bounds were made better only until everything was decided.
        failed: by element the row that is not above zero and ended it; others were not asked.
    """

    backward: bool = True
    parallel: bool = False
    places: dict[str, Tensor] = field(default_factory=dict)
    planes: dict[tuple[int, int], list[Plane]] = field(default_factory=dict)
    between: dict[int, dict[str, Between]] = field(default_factory=dict)
    boxes: dict[str, Box] = field(default_factory=dict)
    decided: bool = False
    failed: dict[int, int] = field(default_factory=dict)

    def add(self, boxes: Mapping[str, Box], count: int) -> None:
        """Boxes of the next ``count`` elements."""
        for name, box in boxes.items():
            sides = [side.detach().expand(count, *side.shape[1:]) for side in box]
            if name in self.boxes:
                before = self.boxes[name]
                sides = [torch.cat(pair) for pair in zip(before, sides, strict=True)]
            self.boxes[name] = Box(*sides)


@dataclass(frozen=True, eq=False)
class Problem:
    """Linear functions of the output to be bounded below.

    Attributes:
        graph: prepared, in the region's precision.
        region: the inputs.
        rows: coefficients ``(S, B, *output shape)``.
        options: see `Options`.
        trace: what methods fill in.
        boxes: of all nodes, where they have been found before: methods whose boxes are CROWN's
            take these in their place.
        enough: likewise ``(S, B)``, in place of the options' one for all rows.
        decide: it is asked only whether all rows of an element are above zero: rows that are need
            not be made better, nor any where one stays below.
        go_on: asked before every step of ``layers="full"`` but the first; None: always yes. Where
            it looks at a clock, answers depend on the machine.
    """

    graph: Graph
    region: Region
    rows: Tensor
    options: Options = field(default_factory=Options)
    trace: Trace = field(default_factory=Trace)
    boxes: Mapping[str, Box] = field(default_factory=dict)
    enough: Tensor | None = None
    decide: bool = False
    go_on: Callable[[], bool] | None = None

    def parts(self) -> Iterator[Problem]:
        """The problem for fewer elements at a time, so that their boxes stay in the cache."""
        widest = max(torch.Size(node.shape).numel() for node in self.graph)
        size = max(LEAST_PART, 2 * BLOCK // widest)
        for start in range(0, len(self.region), size):
            at = slice(start, start + size)
            boxes = {
                name: box if len(box.lower) == 1 else Box(box.lower[at], box.upper[at])
                for name, box in self.boxes.items()
            }
            region = self.region.elements(at)
            yield replace(self, region=region, rows=self.rows[:, at], boxes=boxes)

    def engine(self, settings: Settings) -> Engine:
        """The engine of this problem."""
        self.trace.backward, self.trace.parallel = settings.backward, settings.parallel
        given = self.boxes if settings == Settings() else {}
        return Engine(self.graph, self.region, settings, given=given)

    def asked(self, found: Tensor) -> list[int]:
        """Rows of one element that are to be made better, in order.

        Args:
            found: its bounds so far ``(S,)``. Where it is to be decided only, rows above zero are
                left as they are, and the lowest comes first: it is the likeliest to fail.
        """
        if not self.decide:
            return list(range(len(found)))
        self.trace.decided = True
        order: list[int] = found.argsort().tolist()
        return [row for row in order if not found[row] > 0]

    def ends(self, bound: Tensor, row: int, element: int) -> bool:
        """Whether a row of `asked` has failed by this bound, so that no other need be asked."""
        if not self.decide or bool(bound > 0):
            return False
        self.trace.failed[element] = row
        return True

    def by_boxes(self, engine: Engine) -> Tensor:
        """``(S, B)``: the rows go back over affine operators only, then meet boxes.

        The last layer is thereby merged with the rows before an interval is taken.
        """
        return least_on_boxes(engine, self.rows)


Method = Callable[[Problem], Tensor]
"""Lower bounds ``(S, B)`` of the problem's rows."""


class Methods(Registry[Method]):
    """The registry of methods, which also knows the `Options` that each of them reads."""

    def __init__(self) -> None:
        super().__init__(
            "bounding",
            "phalanx.bounds.methods",
            noun="bounding method",
            aliases={
                **{"ibp": "interval", "deeppoly": "crown", "deepz": "zonotope"},
                **{"k-relu": "kpoly", "krelu": "kpoly", "wong-kolter": "fast-lin"},
            },
        )
        self._reads: dict[str, tuple[str, ...]] = {}
        self._above: dict[str, str] = {}

    def register(
        self, name: str, *, reads: Sequence[str] = (), above: str = ""
    ) -> Callable[[Method], Method]:
        """Decorator: offer a method under ``name``.

        Args:
            name: of its file.
            reads: names of its options.
            above: a cheaper method that its bounds are not below, from whose radii it goes on.
        """
        self._reads[name] = tuple(reads)
        if above:
            self._above[name] = above
        return super().register(name)

    def reads(self, name: str) -> tuple[str, ...]:
        """Names of the options that a method reads; none where it did not say.

        Raises:
            ParameterError: nothing has that name.
        """
        self.get(name)
        return self._reads.get(self.aliases.get(name, name), ())

    def above(self, name: str) -> str | None:
        """The cheaper method that a method's bounds are not below, if it names one.

        Raises:
            ParameterError: nothing has that name.
        """
        self.get(name)
        return self._above.get(self.aliases.get(name, name))


methods = Methods()


def least_on_boxes(engine: Engine, rows: Tensor) -> Tensor:
    """Lower bounds ``(S, B)`` of rows of the output, by the boxes of curves and joints."""
    from phalanx.bounds.ops import Affine

    pending, total = {engine.graph.output: rows}, rows.new_zeros(rows.shape[:2])
    for node in reversed(engine.graph.nodes):
        coefficients = pending.pop(node.name, None)
        if coefficients is None:
            continue
        row = engine.rows.get(node.name)
        if row is None:
            total = total + engine.region.least(coefficients)
        elif isinstance(row, Affine):
            found, share = row.backward(node, [], coefficients)
            total = total if share is None else total + share
            for name, part in zip(node.inputs, found, strict=True):
                pending[name] = pending[name] + part if name in pending else part
        else:
            box = engine.boxes[node.name]
            sides = torch.where(coefficients > 0, box.lower, box.upper)
            share = torch.where(coefficients == 0, 0.0, coefficients * sides)
            total = total + share.flatten(2).sum(2)
    return total
