"""``unmask tune``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from unmask.cli import options
from unmask.errors import UserError

if TYPE_CHECKING:
    from unmask.tuning import Trial
    from unmask.unmasker import Unmasker

PLOT = "tuning.png"


@click.command("tune")
@options.model
@click.option("--data", required=True, help="Text that the model should write like.")
@options.field
@click.option("--seconds", type=float, help="The most that a text may take: the best within it.")
@click.option("--quality", type=float, help="The largest distance: the fastest within it.")
@click.option("--length", default=100, show_default=True, type=click.IntRange(min=1))
@click.option("--rows", default=16, show_default=True, type=click.IntRange(min=1))
@click.option("--out", type=click.Path(path_type=Path), help="Save the model there instead.")
@options.seed
@options.as_json
@options.device
def command(
    model: str | None,
    data: str,
    field: str,
    seconds: float | None,
    quality: float | None,
    length: int,
    rows: int,
    out: Path | None,
    seed: int,
    as_json: bool,
    device: str | None,
) -> None:
    """Find the best sampler of a model for a time or a quality, and make it the model's own.

    Every sampler writes a few texts, whose trigrams of characters are compared with those of
    --data. The choice goes into unmask.json beside the weights, with all that was measured and a
    plot; without a target it is the sampler of the best quality.
    """
    from unmask.training.data import joined, read_documents
    from unmask.tuning import check_target, choose, frontier

    check_target(seconds, quality)
    folder = _place(model, out)
    text = joined(read_documents(data, field))
    writer = options.open_unmasker(model, device)
    trials, floor = _measured(writer, text, length, rows, seed)
    chosen = choose(trials, seconds, quality)
    record = {
        "chosen": chosen.as_dict(),
        "trials": [trial.as_dict() for trial in trials],
        "floor": round(floor, 4),
        "length": length,
    }
    writer.card = replace(
        writer.card, sampler=chosen.sampler, scores={**writer.card.scores, "tuning": record}
    )
    if out is not None:
        writer.save_pretrained(out)
    else:
        writer.card.write(folder)
    _draw(trials, floor, folder / PLOT)
    if as_json:
        click.echo(json.dumps(record))
        return
    best = {id(trial) for trial in frontier(trials)}
    click.echo("| sampler | calls | seconds a text | distance | |\n|---|---|---|---|---|")
    for trial in sorted(trials, key=lambda t: t.seconds):
        mark = "chosen" if trial is chosen else "best for its time" if id(trial) in best else ""
        numbers = f"{trial.calls} | {trial.seconds:.3f} | {trial.distance:.3f}"
        click.echo(f"| {trial.label} | {numbers} | {mark} |")
    click.echo(f"| the text itself | | | {floor:.3f} | |")


def _place(model: str | None, out: Path | None) -> Path:
    """Return the folder whose card is written, before any work is done for it."""
    if out is not None:
        from unmask.checkpoint import claim

        claim(out, overwrite=False)
        return out
    if model is None or not Path(model).expanduser().is_dir():
        raise UserError("the choice is written beside the model; for this one pass --out FOLDER")
    return Path(model).expanduser()


def _measured(
    writer: Unmasker, text: str, length: int, rows: int, seed: int
) -> tuple[list[Trial], float]:
    from rich.progress import Progress

    from unmask.tuning import CANDIDATES, measure

    console = options.console()
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("writing", total=len(CANDIDATES))
        return measure(
            writer,
            text,
            length=length,
            rows=rows,
            seed=seed,
            advance=lambda trial: progress.advance(task),
        )


def _draw(trials: list[Trial], floor: float, path: Path) -> None:
    from unmask.render.frontier import Point, frontier

    points = [Point(t.sampler["name"], t.seconds, t.distance) for t in trials]
    frontier(
        points,
        path,
        title="Samplers of this model",
        cost="seconds a text",
        floor=("the text itself", floor),
    )
