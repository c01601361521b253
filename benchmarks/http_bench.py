"""Serve the same models with fastserve and with what a user could pick instead; print who answers how many.

Run it as `python -m benchmarks.http_bench --figures` (the promised ratios) or `--matrix` (the whole table).
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.serving import figures, machine, matrix, report
from benchmarks.serving.load import LoadError, find_wrk
from benchmarks.serving.rig import MODELS, Rig, Settings, say


def main(
    show_figures: Annotated[
        bool, typer.Option("--figures", help="Measure the promised ratios: pass or miss.")
    ] = False,
    show_matrix: Annotated[
        bool, typer.Option("--matrix", help="Measure every case against every rival.")
    ] = False,
    only: Annotated[
        str, typer.Option(help="Figures by number (1,3) or cases by part of their name (small-1-).")
    ] = "",
    quick: Annotated[
        bool, typer.Option(help="One repetition of one second: to see that it runs, not to quote.")
    ] = False,
    repetitions: Annotated[
        int, typer.Option(min=1, help="Turns of each server; medians of 3 or more count.")
    ] = 3,
    seconds: Annotated[int, typer.Option(min=1, help="Length of one measurement.")] = 5,
    server_core: Annotated[
        int | None, typer.Option(help="Core of the servers. Default: the first allowed.")
    ] = None,
    load_core: Annotated[int | None, typer.Option(help="Core of wrk. Default: the next allowed.")] = None,
    models: Annotated[Path, typer.Option(help="Where generated models are kept.")] = MODELS,
    markdown: Annotated[
        Path | None, typer.Option(help="Also write the tables to this file as Markdown.")
    ] = None,
) -> None:
    """Start every server pinned to one core, load it with wrk from another, and print the tables."""
    if show_figures == show_matrix:
        raise typer.BadParameter("choose one of --figures and --matrix")
    chosen = {part for part in only.split(",") if part}
    numbers = figure_numbers(chosen) if show_figures else set()
    try:
        find_wrk()
        layout = machine.layout(server_core, load_core)
    except (LoadError, ValueError) as error:
        say(str(error))
        raise typer.Exit(1) from error
    with tempfile.TemporaryDirectory(prefix="fastserve-bench-") as directory:
        turns, length = (1, 1) if quick else (repetitions, seconds)
        rig = Rig(Settings(turns, length, layout, models, Path(directory), say))
        outcomes = figures.measure(rig, numbers) if show_figures else []
        problems = matrix.measure(rig, chosen) if show_matrix else []
    publish([report.figures_grid(outcomes), report.races_grid(rig.races)], markdown)
    for problem in problems:
        say(problem)
    if problems or not all(outcome.passed for outcome in outcomes):
        raise typer.Exit(1)


def figure_numbers(chosen: set[str]) -> set[int]:
    """The figures that `--only` names."""
    if not chosen <= {str(number) for number in figures.FIGURES}:
        raise typer.BadParameter(f"--only takes figures 1 to {max(figures.FIGURES)}")
    return {int(part) for part in chosen}


def publish(grids: Sequence[report.Grid], markdown: Path | None) -> None:
    """Print the tables and what they were measured on; write them to a file too when asked."""
    facts = machine.describe()
    report.show(facts, grids)
    if markdown is not None:
        markdown.write_text(report.markdown(facts, grids))


if __name__ == "__main__":
    typer.run(main)
