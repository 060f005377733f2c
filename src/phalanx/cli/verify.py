"""``phalanx verify NET PROPERTY``: sat or unsat, with a witness or a proof."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phalanx.cli import options as opt
from phalanx.cli.console import answer, as_json, log
from phalanx.cli.deadline import Known, keep_time
from phalanx.errors import ParameterError, PhalanxError, SampleErrors
from phalanx.runtime.age import started
from phalanx.verdicts import Verdict

if TYPE_CHECKING:
    from phalanx.specs.property import Property
    from phalanx.specs.vnnlib.query import Query
    from phalanx.verify.network import Network
    from phalanx.verify.result import Result, Watch

SECONDS = 120.0
"""Where nobody says how long."""

Files = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NET] PROPERTY", help="a network (net.onnx) and a VNN-LIB file"),
]
Timeout = Annotated[
    float | None,
    typer.Option("--timeout", help=f"seconds, start-up included; default {SECONDS:g}"),
]
Networks = Annotated[
    list[str] | None, typer.Option("--network", help="name=file: of a VNN-LIB 2.0 query")
]
Tables = Annotated[
    list[Path] | None,
    typer.Option("--table", help="instances.csv, or a folder with some: solve them all"),
]
Recheck = Annotated[
    bool, typer.Option("--recheck/--no-recheck", help="count the roundings of every proof")
]
Idealised = Annotated[
    bool,
    typer.Option("--idealised", help="answer queries about floats in exact arithmetic"),
]
Engines = Annotated[
    list[str] | None, typer.Option("--engine", help="complete method; repeat it; or none")
]
Proof = Annotated[
    Path | None,
    typer.Option("--proof", help="write why the answer is right; phalanx runs recheck checks it"),
]
Cap = Annotated[float | None, typer.Option("--cap", help="of a table: at most these seconds each")]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(name="verify")(verify)


def verify(
    files: Files = None,
    timeout: Timeout = None,
    network: Networks = None,
    table: Tables = None,
    cap: Cap = None,
    every: opt.Every = 1,
    limit: opt.Limit = None,
    out: opt.Out = None,
    seed: opt.Seed = 0,
    recheck: Recheck = True,
    engine: Engines = None,
    idealised: Idealised = False,
    proof: Proof = None,
    json: opt.Json = False,
) -> None:
    """Decide whether a network has a property: sat (a counterexample), unsat (proven), or neither.

    The first line on stdout is sat, unsat, unknown, timeout (timed-out in VNN-LIB 2.0) or error.
    """
    began = started()
    if table:
        if files or network or proof or timeout is not None:
            raise ParameterError(
                "files, --network, --timeout or --proof beside --table",
                why="a table names the files of each instance and its time limit",
                repair="phalanx verify --table FILE --cap SECONDS",
            )
        from phalanx.cli.verify_table import solve_tables

        words = _words(seed=seed, recheck=recheck, engines=engine or [], idealised=idealised)
        solve_tables(table, out, words, cap=cap, every=every, limit=limit, json=json)
        return
    net, query = _files(files or [], network or [])
    seconds = SECONDS if timeout is None else timeout
    if not seconds > 0:
        raise ParameterError(f"--timeout {seconds}", why="it is a number of seconds above 0")
    plan: dict[str, Any] = {"recheck": recheck, "seed": seed, "proof": proof is not None}
    if proof is not None:
        from phalanx.cli.proofs import require_files

        require_files(net[1], proof)
    if engine:
        plan["engines"] = () if engine == ["none"] else tuple(engine)
    _solve(net, query, began + seconds, plan=plan, idealised=idealised, proof=proof, json=json)


def _words(*, seed: int, recheck: bool, engines: list[str], idealised: bool) -> tuple[str, ...]:
    """What is passed on to the process of every instance of a table."""
    words = [word for name in engines for word in ("--engine", name)]
    words += ["--seed", str(seed)] if seed else []
    words += [] if recheck else ["--no-recheck"]
    return (*words, "--idealised") if idealised else tuple(words)


def _files(files: list[str], networks: list[str]) -> tuple[tuple[str, str], str]:
    """The network, with the name that a query gives it, and the query."""
    if len(files) == 2 and not networks:
        return ("", files[0]), files[1]
    if len(files) == 1 and len(networks) == 1:
        name, sign, path = networks[0].partition("=")
        if sign and name and path:
            return (name, path), files[0]
    raise ParameterError(
        "a network and a property are needed",
        repair="phalanx verify net.onnx property.vnnlib, or query.vnnlib --network f=net.onnx",
    )


def _solve(
    net: tuple[str, str],
    query: str,
    end: float,
    *,
    plan: dict[str, Any],
    idealised: bool,
    proof: Path | None,
    json: bool,
) -> None:
    state = _State()
    # From here on the time is kept, whatever is still to be imported.
    known = keep_time(
        max(end - time.monotonic(), 0.01), lambda word: _written(word, json=json), state.progress
    )
    try:
        result, found, network = _decided(
            net, query, end, state, known, plan=plan, idealised=idealised
        )
        text = _answer(result, found, json=json)
    except PhalanxError:
        raise
    except Exception:
        known.tell(Known.ANSWERING)
        answer(_written("error", json=json))
        raise
    finally:
        known.tell(Known.ANSWERING)
    answer(text)
    log(repr(result))
    if result.verdict is Verdict.ERROR:
        raise SampleErrors(f"nothing was decided: {result.reason}")
    if proof is not None:
        _prove(result, network, found.property, (net[1], query), proof, end=end, known=known)


def _prove(
    result: Result,
    network: Network,
    prop: Property,
    files: tuple[str, str],
    out: Path,
    *,
    end: float,
    known: Known,
) -> None:
    """A proof of what was answered, in the time that is left."""
    from phalanx.cli.proofs import keep

    def writing() -> None:
        known.tell(Known.ANSWERING)

    if result.word in ("sat", "unsat"):  # else nothing is to be done that could take long
        known.tell(Known.ANSWERED)
        known.tell(Known.ANSWERING, False)
    try:
        keep(
            result,
            network,
            prop,
            files,
            out,
            expired=lambda: time.monotonic() > end,
            writing=writing,
        )
    finally:
        known.tell(Known.ANSWERING)


def _decided(
    net: tuple[str, str],
    query: str,
    end: float,
    state: _State,
    known: Known,
    *,
    plan: dict[str, Any],
    idealised: bool,
) -> tuple[Result, Query, Network]:
    from phalanx.specs.vnnlib import read
    from phalanx.verify.answers import require_consent
    from phalanx.verify.network import network_of
    from phalanx.verify.outcome import Clock
    from phalanx.verify.plans import Portfolio
    from phalanx.verify.portfolio import decide
    from phalanx.verify.result import Watch

    found = read(query)
    known.tell(Known.TWO, found.version == "2.0")
    if net[0] and net[0] != found.network:
        raise ParameterError(
            f"--network {net[0]}=...",
            why=f"the query calls its network {found.network or 'nothing'}",
        )
    require_consent(found, idealised=idealised)
    state.watch = Watch(lambda proven: known.tell(Known.PROVEN, proven))
    network = network_of(net[1])
    network.check(found)
    clock = Clock(max(end - time.monotonic(), 1e-3))
    result = decide(network, found.property, plan=Portfolio(**plan), watch=state.watch, clock=clock)
    return result, found, network


class _State:
    """How far the work is, for a line on a terminal."""

    def __init__(self) -> None:
        self.watch: Watch | None = None

    def progress(self) -> str:
        """Where the work is."""
        watch = self.watch
        if watch is None:
            return "reading"
        numbers = ", ".join(f"{key} {value}" for key, value in watch.numbers.items())
        return f"{watch.stage or 'starting'}: {watch.refuted} of {watch.cases} cases refuted" + (
            f", {numbers}" if numbers else ""
        )


def _written(word: str, *, json: bool) -> str:
    return f'{{"answer": "{word}"}}' if json else word


def _answer(result: Result, query: Query, *, json: bool) -> str:
    from phalanx.verify.answers import answer_lines

    if json:
        return as_json(_as_json(result, query))
    return "\n".join(answer_lines(result, query))


def _as_json(result: Result, query: Query) -> dict[str, Any]:
    from phalanx.verify.answers import word_of

    witness = None
    if result.witness is not None:
        witness = {
            "x": result.witness.x.tolist(),
            "y": result.witness.y.tolist(),
            "case": result.witness.case,
            "runtime": result.witness.runtime,
        }
    return {
        "answer": word_of(result, query.version),
        "verdict": str(result.verdict),
        "reason": result.reason,
        "arithmetic": result.arithmetic,
        "seconds": result.seconds,
        "seconds_rechecking": result.rechecked,
        "cases": result.cases,
        "refuted": result.refuted,
        "refuted_by": dict(result.by),
        "lower": result.lower,
        "witness": witness,
        "stats": dict(result.stats),
        "failures": list(result.failures),
    }
