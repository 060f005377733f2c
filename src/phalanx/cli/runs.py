"""``phalanx runs``: look at runs, compare them, recheck them, hand them on. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phalanx.cli.console import answer, answer_columns, answer_json, log
from phalanx.cli.options import Json, number
from phalanx.errors import ParameterError, RunError

if TYPE_CHECKING:
    from phalanx.runs.compare import Side
    from phalanx.runs.recheck import RecheckReport
    from phalanx.runs.store import RunStore

Run = Annotated[Path, typer.Argument(metavar="RUN", help="a run folder, or a bundle")]
AnyRun = Annotated[
    str, typer.Argument(metavar="RUN[:CLASSIFIER]", help="a run folder or bundle, and which of it")
]
Classifier = Annotated[
    str | None, typer.Option("--classifier", help="a classifier of the run; default: the primary")
]
Radii = Annotated[
    str | None, typer.Option("--radii", help="comma-separated radii in input units: 0,0.5,1")
]
_SHOWN_FAILURES = 10
_IMPORTED_WRONGLY = "imported with another alpha, sigma or n than the log was made with, or edited"


def register(app: typer.Typer) -> None:
    """Add the ``runs`` group."""
    group = typer.Typer(
        help="Look at runs, compare and recheck them, hand them on.", no_args_is_help=True
    )
    group.command("list")(list_)
    group.command("show")(show)
    group.command("compare")(compare)
    group.command("expected")(expected)
    group.command("explain")(explain)
    group.command("recheck")(recheck)
    group.command("plot")(plot)
    group.command("report")(report)
    group.command("export")(export)
    group.command("import")(import_)
    app.add_typer(group, name="runs")


def list_(
    root: Annotated[Path, typer.Option("--root", help="folder of run folders")] = Path("runs"),
    json: Json = False,
) -> None:
    """The runs in a folder, the newest first."""
    from phalanx.runs.listing import list_runs

    found = list_runs(root)
    if json:
        answer_json({"runs": [entry.as_json() for entry in found]})
    elif found:
        header = ("run", "kind", "sigma", "n", "images", "ACR", "created", "")
        answer_columns([header, *(entry.cells() for entry in found)])
    else:
        log(f"there are no runs in {root}")


def show(run: Run, classifier: Classifier = None, radii: Radii = None, json: Json = False) -> None:
    """Certified accuracy at radii with 95% intervals, average certified radius, abstentions.

    Of a run of attacks: accuracy before and after; of a table of queries: answers by benchmark.
    """
    from phalanx.evaluation.instances import RECORDS, records
    from phalanx.reporting.tables import NARROW, chosen_radii, summary_rows, summary_table
    from phalanx.runs.bundle import open_run
    from phalanx.runs.manifest import ATTACK
    from phalanx.runs.query import summarise

    if (run / RECORDS).is_file():
        from phalanx.cli.verify_table import answer_summaries

        given = {"--classifier": classifier, "--radii": radii}
        if named := " and ".join(word for word, value in given.items() if value is not None):
            raise ParameterError(
                f"{named} of {run}", why="it is a table of queries, which have neither"
            )
        answer_summaries(list(records(run).values()), json=json)
        return
    asked = _radii(radii)
    with open_run(run) as store:
        if store.manifest.kind == ATTACK:
            _show_attack(store, json=json)
            return
        if json:
            answer_json(summarise(store, classifier, asked).as_json())
            return
        if classifier is None:
            answer(str(summary_table(store, asked)))
            return
        shown = chosen_radii(store, NARROW) if asked is None else asked
        answer(str(summary_rows([summarise(store, classifier, shown)], shown)))


def compare(
    a: AnyRun,
    b: AnyRun,
    form: Annotated[
        str, typer.Option("--format", help="table, csv, markdown, latex or json")
    ] = "table",
    radii: Radii = None,
    json: Json = False,
) -> None:
    """A minus B, paired on the images both have, with 95% bootstrap intervals over images."""
    from contextlib import ExitStack

    from phalanx.reporting.comparison import (
        comparison_caption,
        comparison_columns,
        comparison_markup,
        comparison_rows,
    )
    from phalanx.runs.compare import compare as compare_sides
    from phalanx.runs.markup import FORMS

    if form not in (*FORMS, "table", "json"):
        raise ParameterError(
            f"there is no format {form!r}", repair=f"table, json, {', '.join(FORMS)}"
        )
    with ExitStack() as opened:
        found = compare_sides(_side(a, opened), _side(b, opened), _radii(radii))
    if json or form == "json":
        answer_json(found.as_json())
    elif form == "table":
        answer(f"A: {found.a}\nB: {found.b}")
        answer_columns([comparison_columns(), *comparison_rows(found)])
        answer(comparison_caption(found))
    else:
        answer(comparison_markup(found, form))


def expected(run: Run, radii: Radii = None, json: Json = False) -> None:
    """What is certified where one of the run's members answers at random (certify --each)."""
    from phalanx.runs.bundle import open_run
    from phalanx.runs.expected import expected_accuracy

    with open_run(run) as store:
        found = expected_accuracy(store, _radii(radii))
    if json:
        answer_json(found.as_json())
    else:
        answer("\n".join(found.lines()))


def explain(
    run: Run,
    image: Annotated[int, typer.Argument(metavar="IMAGE", help="index in the data set")],
    classifier: Classifier = None,
    json: Json = False,
) -> None:
    """Why an image has its radius, and what would raise it."""
    from phalanx.runs.bounded import explain_bounded
    from phalanx.runs.bundle import open_run
    from phalanx.runs.explain import explain as explain_image
    from phalanx.runs.manifest import BOUNDS
    from phalanx.runs.query import require_classifier

    with open_run(run) as store:
        if store.manifest.kind == BOUNDS:
            lines = explain_bounded(store, require_classifier(store, classifier), image)
            if json:
                answer_json({"image": image, "lines": lines})
            else:
                answer("\n".join(lines))
            return
        found = explain_image(store, image, classifier)
    if json:
        answer_json(found.as_json())
    else:
        answer("\n".join(found.lines()))


def recheck(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="a run folder, a bundle, or a proof of verify")
    ],
    network: Annotated[
        Path | None, typer.Option("--network", help="of a proof: the network, net.onnx")
    ] = None,
    prop: Annotated[
        Path | None, typer.Option("--property", help="of a proof: the property, p.vnnlib")
    ] = None,
    json: Json = False,
) -> None:
    """Recompute every certificate from its stored votes, by code that did not make it.

    A file of verify --proof is checked in the same way, against its network and property: proof
    holds (exit code 0), or does not, where and why (exit code 5).
    """
    if network is not None or prop is not None or (run.is_file() and run.suffix != ".zip"):
        from phalanx.cli.proofs import recheck_proof

        recheck_proof(run, network, prop, json=json)
        return
    from phalanx.runs.bundle import open_run
    from phalanx.runs.imports import KIND
    from phalanx.runs.recheck import Outcome
    from phalanx.runs.recheck import recheck as recheck_run

    with open_run(run) as store:
        found, imported = recheck_run(store), store.manifest.kind == KIND
    if json:
        answer_json(found.as_json())
    else:
        answer("\n".join(_rechecked(found)))
    if not found.ok:
        raise RunError(
            f"{found.count(Outcome.FAILED)} certificates of {run} failed the recheck",
            why="; ".join(found.problems),
            repair="the lines above name them; the run was "
            + (_IMPORTED_WRONGLY if imported else "edited, or its records are damaged"),
        )


def plot(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="run folders or bundles")],
    out: Annotated[Path, typer.Option("--out", help="x.png, x.svg or x.pdf")],
) -> None:
    """Draw certified accuracy against the radius."""
    from contextlib import ExitStack

    from phalanx.reporting.curves import plot_runs
    from phalanx.runs.bundle import open_run

    with ExitStack() as opened:
        stores = [opened.enter_context(open_run(run)) for run in runs]
        answer(str(plot_runs(stores, out)))


def report(
    run: Run,
    out: Annotated[
        Path | None, typer.Option("--out", help="file; default report.html in the run")
    ] = None,
) -> None:
    """Write the report: one HTML file that needs no network."""
    from phalanx.reporting.html import write_report
    from phalanx.runs.bundle import open_run

    with open_run(run) as store:
        answer(str(write_report(store, out)))


def export(
    run: Run,
    form: Annotated[str, typer.Option("--format", help="tsv, jsonl or parquet")] = "tsv",
    out: Annotated[
        Path | None, typer.Option("--out", help="file; default the run's name beside you")
    ] = None,
    bundle: Annotated[
        bool, typer.Option("--bundle", help="counts, hashes and report as one zip for a reviewer")
    ] = False,
    classifier: Classifier = None,
    digits: Annotated[int, typer.Option("--digits", help="of TSV radii; cut, not rounded")] = 6,
    counts: Annotated[bool, typer.Option("--counts", help="add nA and n to the TSV")] = False,
) -> None:
    """Write certificates for other tools, or the whole evidence for a reviewer."""
    from phalanx.reporting.html import render
    from phalanx.runs.bundle import export_bundle, open_run
    from phalanx.runs.export import export as export_run

    path = out or Path(f"{run.resolve().stem}.{'zip' if bundle else form}")
    with open_run(run) as store:
        if bundle:
            answer(str(export_bundle(store, path, render(store))))
            return
        answer(
            str(export_run(store, path, form, classifier=classifier, digits=digits, counts=counts))
        )


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="idx label predict radius correct")],
    sigma: Annotated[str, typer.Option("--sigma", help="noise level in input units")],
    n: Annotated[int, typer.Option("--n", help="estimation samples an image")],
    alpha: Annotated[float, typer.Option("--alpha", help="failure probability")],
    out: Annotated[Path | None, typer.Option("--out", help="run folder to make")] = None,
    n0: Annotated[int, typer.Option("--n0", help="selection samples an image")] = 100,
    name: Annotated[str | None, typer.Option("--name", help="of the classifier")] = None,
    data: Annotated[str | None, typer.Option("--data", help="name of the data set")] = None,
    json: Json = False,
) -> None:
    """Make a run of a published log, to show, compare and plot it beside others."""
    from phalanx.runs.arithmetic import largest_radius
    from phalanx.runs.export import truncated
    from phalanx.runs.imports import beyond_cap, import_log
    from phalanx.runs.provenance import new_run_folder
    from phalanx.runs.query import run_json

    folder, level = out or new_run_folder(file.stem), number(sigma)
    with import_log(file, folder, level, n, alpha, n0=n0, name=name, data=data) as store:
        cap = largest_radius(n, alpha, level)
        if beyond := beyond_cap(store.certificates(), cap):
            log(
                f"warning: {len(beyond)} radii exceed {truncated(cap, 4)}, the largest that these "
                f"n, alpha and sigma can give (first: image {beyond[0]})"
            )
        if json:
            answer_json(run_json(store) | {"run": str(folder)})
        else:
            log(f"{len(store.certificates())} images")
            answer(str(folder))


def _radii(text: str | None) -> list[float] | None:
    return None if text is None else [number(part.strip()) for part in text.split(",")]


def _show_attack(store: RunStore, *, json: bool) -> None:
    from phalanx.reporting.attacked import attack_table
    from phalanx.runs.attacked import summarise_attack

    if json:
        answer_json(summarise_attack(store).as_json())
    else:
        answer(attack_table(store).text())


def _side(text: str, opened: Any) -> Side:
    """``RUN`` or ``RUN:CLASSIFIER``; either part may hold colons."""
    from phalanx.runs.bundle import open_run
    from phalanx.runs.compare import Side

    ends = [len(text), *(i for i in range(len(text) - 1, 0, -1) if text[i] == ":")]
    end = next((end for end in ends if Path(text[:end]).exists()), len(text))
    store = opened.enter_context(open_run(Path(text[:end])))
    return Side.of(store, text[end + 1 :] or None, text)


def _rechecked(found: RecheckReport) -> list[str]:
    from phalanx.runs.recheck import Outcome

    lines = [f"{outcome.value:<16}{found.count(outcome)}" for outcome in Outcome]
    lines += [f"  {count} {reason}" for reason, count in found.reasons().items()]
    lines += [f"problem: {problem}" for problem in found.problems]
    failures = found.failures()
    lines += [
        f"image {f.image} of {f.classifier!r}: {'; '.join(f.reasons)}"
        for f in failures[:_SHOWN_FAILURES]
    ]
    if len(failures) > _SHOWN_FAILURES:
        lines.append(f"and {len(failures) - _SHOWN_FAILURES} more (--json lists all)")
    return lines
