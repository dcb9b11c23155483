"""``unmask tune``."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unmask.cli import options, printing
from unmask.errors import UserError

if TYPE_CHECKING:
    from unmask.pipelines.autotune import Trial, Tuning
    from unmask.pipelines.unmasker import Unmasker

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
@click.option("--overwrite", is_flag=True, help="Replace the model in --out.")
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
    overwrite: bool,
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
    from unmask.data.documents import check_field, joined, read_documents
    from unmask.pipelines.autotune import check_target, choose, restrictions

    check_target(seconds, quality)
    folder = _place(model, out, overwrite)
    check_field(field, data)
    text = joined(read_documents(data, field, note=options.note))
    writer = options.open_unmasker(model, device)
    found = _measured(writer, text, length, rows, seed)
    # Shown first: should the target be out of reach or the disk full, the measurement is not lost.
    try:
        chosen = choose(found.trials, seconds, quality)
    except UserError:
        _show(found, None, length, as_json)
        raise
    record = _show(found, chosen, length, as_json)
    scores = {**writer.card.scores, "tuning": record}
    sampler = chosen.sampler | restrictions(writer.card.sampler)
    writer.card = replace(writer.card, sampler=sampler, scores=scores)
    if out is not None:
        writer.save_pretrained(out, overwrite=overwrite)
    else:
        writer.card.write(folder)
    try:
        options.check_pictures(plot=folder / PLOT)
        _draw(found, folder / PLOT)
    except UserError as error:
        printing.note(f"no plot: {error}")


def _show(found: Tuning, chosen: Trial | None, length: int, as_json: bool) -> dict[str, Any]:
    """Print what was measured; return it as a card keeps it."""
    record = {
        "chosen": None if chosen is None else chosen.as_dict(),
        "trials": [trial.as_dict() for trial in found.trials],
        "left_out": list(found.refused),
        "floor": round(found.floor, 4),
        "length": length,
    }
    printing.record(record) if as_json else printing.result(_table(found, chosen))
    _tell_refused(found)
    return record


def _table(found: Tuning, chosen: Trial | None) -> str:
    """Return all trials as a table, fastest first."""
    from unmask.pipelines.autotune import frontier

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
        printing.note(f"left out: {names} ({reason})")


def _place(model: str | None, out: Path | None, overwrite: bool) -> Path:
    """Return the folder whose card is written, before any work is done for it."""
    from unmask.models.checkpoint import check_folder, claim

    if out is not None:
        if model is not None and Path(os.path.expanduser(model)).resolve() == out.resolve():
            raise UserError("--out is the model itself; leave it out to keep the choice there")
        claim(out, overwrite)
        return out
    if overwrite:
        raise UserError("--overwrite is about --out; pass both, or neither")
    if model is not None:
        options.quiet_libraries()
        from unmask.models.loading import is_local

        is_local(model)  # A path where nothing is has a sentence of its own.
    if model is None or not Path(os.path.expanduser(model)).is_dir():
        raise UserError("the choice is written beside the model; for this one pass --out FOLDER")
    folder = Path(os.path.expanduser(model))
    check_folder(folder)
    return folder


def _measured(writer: Unmasker, text: str, length: int, rows: int, seed: int) -> Tuning:
    from rich.progress import Progress

    from unmask.pipelines.autotune import CANDIDATES, measure

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
