"""``unmask tune``."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from unmask.cli import options
from unmask.errors import UserError

if TYPE_CHECKING:
    from unmask.tuning import Trial, Tuning
    from unmask.unmasker import Unmasker

PLOT = "tuning.png"


@click.command("tune")
@options.model
@click.option("--data", required=True, help="Text that the model should write like.")
@options.field
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    help="The most that a text may take: the best within it.",
)
@click.option(
    "--quality",
    type=click.FloatRange(0, 1, min_open=True),
    help="The largest distance: the fastest within it.",
)
@click.option("--length", default=100, show_default=True, type=click.IntRange(min=1))
@click.option("--rows", default=16, show_default=True, type=click.IntRange(min=1))
@click.option("--out", type=options.PLACE, help="Save the model there instead.")
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
    plot; without a target it is the sampler of the best quality. Samplers that the model cannot
    use are left out.
    """
    from unmask.training.data import check_field, joined, read_documents
    from unmask.tuning import check_target, choose

    check_target(seconds, quality)
    folder = _place(model, out)
    check_field(field, data)
    text = joined(read_documents(data, field))
    writer = options.open_unmasker(model, device)
    found = _measured(writer, text, length, rows, seed)
    chosen = choose(found.trials, seconds, quality)
    record = {
        "chosen": chosen.as_dict(),
        "trials": [trial.as_dict() for trial in found.trials],
        "left_out": list(found.refused),
        "floor": round(found.floor, 4),
        "length": length,
    }
    # What is never to be written is no matter of speed or quality.
    kept = {k: v for k, v in writer.card.sampler.items() if k in ("ban", "repetition_penalty")}
    writer.card = replace(
        writer.card, sampler=chosen.sampler | kept, scores={**writer.card.scores, "tuning": record}
    )
    # Shown first: should the disk be full by now, the measurement is not lost.
    click.echo(json.dumps(record) if as_json else _table(found, chosen))
    _tell_refused(found)
    if out is not None:
        writer.save_pretrained(out)
    else:
        writer.card.write(folder)
    try:
        _draw(found, folder / PLOT)
    except UserError as error:
        click.echo(f"no plot: {error}", err=True)


def _table(found: Tuning, chosen: Trial) -> str:
    """Return all trials as a table, fastest first."""
    from unmask.tuning import frontier

    best = {id(trial) for trial in frontier(found.trials)}
    lines = ["| sampler | calls | seconds a text | distance | |", "|---|---|---|---|---|"]
    for trial in sorted(found.trials, key=lambda t: t.seconds):
        mark = "chosen" if trial is chosen else "best for its time" if id(trial) in best else ""
        numbers = f"{trial.calls:.3g} | {trial.seconds:.3f} | {trial.distance:.3f}"
        lines.append(f"| {trial.label} | {numbers} | {mark} |")
    return "\n".join([*lines, f"| the text itself | | | {found.floor:.3f} | |"])


def _tell_refused(found: Tuning) -> None:
    """Say on standard error which samplers were left out, once for each reason."""
    for reason in dict.fromkeys(found.refused.values()):
        names = "; ".join(name for name, why in found.refused.items() if why == reason)
        click.echo(f"left out: {names} ({reason})", err=True)


def _place(model: str | None, out: Path | None) -> Path:
    """Return the folder whose card is written, before any work is done for it."""
    from unmask.checkpoint import check_folder, claim

    if out is not None:
        claim(out, overwrite=False)
        return out
    if model is None or not Path(model).expanduser().is_dir():
        raise UserError("the choice is written beside the model; for this one pass --out FOLDER")
    folder = Path(model).expanduser()
    check_folder(folder)
    return folder


def _measured(writer: Unmasker, text: str, length: int, rows: int, seed: int) -> Tuning:
    from rich.progress import Progress

    from unmask.tuning import CANDIDATES, measure

    console = options.console()
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("writing", total=len(CANDIDATES))
        advance = partial(progress.advance, task)
        return measure(writer, text, length=length, rows=rows, seed=seed, advance=advance)


def _draw(found: Tuning, path: Path) -> None:
    from unmask.render.frontier import Point, frontier

    frontier(
        [Point(t.sampler["name"], t.seconds, t.distance) for t in found.trials],
        path,
        title="Samplers of this model",
        cost="seconds a text",
        floor=("the text itself", found.floor),
    )
