"""``unmask tune``."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unmask.cli import options, printing
from unmask.cli.grouped import Command
from unmask.errors import UserError
from unmask.validation import require

if TYPE_CHECKING:
    from unmask.models.checkpoint import Card
    from unmask.pipelines.autotune import Trial, Tuning
    from unmask.pipelines.unmasker import Unmasker

PLOT = "tuning.png"


@click.command("tune", cls=Command)
@options.model
@click.option("--data", required=True, help="Reference text: what generated text should be like.")
@options.field
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    help="Longest time of a text; the best sampler within it is chosen.",
)
@click.option(
    "--quality",
    type=click.FloatRange(0, 1, min_open=True),
    help="Largest distance; the fastest sampler within it is chosen.",
)
@click.option(
    "--length", default=100, show_default=True, type=click.IntRange(min=1), help="Tokens per text."
)
@click.option(
    "--rows", default=16, show_default=True, type=click.IntRange(min=1), help="Texts per sampler."
)
@click.option("--out", type=options.PLACE, help="Save a copy of the model there instead.")
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
    """Find the best sampler of a model for a time or a quality, and make it the model's default.

    Every sampler generates a few texts, whose character trigrams are compared with those of
    --data. The choice is stored in unmask.json next to the weights, with all measurements and a
    plot; without a target it is the sampler of the best quality. Samplers that the model does not
    support are left out.
    """
    from unmask.data.documents import joined, read_documents
    from unmask.data.sources import check_field
    from unmask.pipelines.autotune import best_trial, check_target

    check_target(seconds, quality)
    folder = _folder(model, out, overwrite)
    options.check_of_texts(model)
    check_field(field, data)
    text = joined(read_documents(data, field, note=options.note))
    unmasker = options.open_unmasker(model, device)
    found = _measured(unmasker, text, length, rows, seed)
    # Printed before a failure, so that the measurements are not lost.
    try:
        chosen = best_trial(found.trials, seconds, quality)
    except UserError:
        _show(found, None, length, as_json)
        raise
    unmasker.card = _tuned(unmasker.card, chosen, _show(found, chosen, length, as_json))
    if out is not None:
        unmasker.save_pretrained(out, overwrite=overwrite)
    else:
        unmasker.card.write(folder)
    try:
        options.check_pictures(plot=folder / PLOT)
        _draw(found, folder / PLOT)
    except UserError as error:
        printing.note(f"no plot: {error}")


def _show(found: Tuning, chosen: Trial | None, length: int, as_json: bool) -> dict[str, Any]:
    """Print the measurements; return them as a card keeps them."""
    record = {
        "chosen": None if chosen is None else chosen.as_dict(),
        "trials": [trial.as_dict() for trial in found.trials],
        "left_out": list(found.refused),
        "floor": round(found.floor, 4),
        "length": length,
    }
    printing.record(record) if as_json else printing.result(_table(found, chosen))
    # One line per reason, on standard error.
    for reason in dict.fromkeys(found.refused.values()):
        names = "; ".join(name for name, why in found.refused.items() if why == reason)
        printing.note(f"left out: {names} ({reason})")
    return record


def _table(found: Tuning, chosen: Trial | None) -> str:
    """Return all trials as a table, fastest first."""
    from unmask.evaluation.sampler_study import markdown_table
    from unmask.pipelines.autotune import fastest_first

    front = {id(trial) for trial in fastest_first(found.trials)}
    rows = []
    for trial in sorted(found.trials, key=lambda t: t.seconds):
        mark = "chosen" if trial is chosen else "best for its time" if id(trial) in front else ""
        numbers = f"{trial.calls:.3g}", f"{trial.seconds:.3f}", f"{trial.distance:.3f}"
        rows.append([trial.label, *numbers, mark])
    rows.append(["the text itself", "", "", f"{found.floor:.3f}", ""])
    return markdown_table(["sampler", "calls", "seconds per text", "distance", ""], rows)


def _tuned(card: Card, chosen: Trial, record: dict[str, Any]) -> Card:
    """Return the card with the chosen sampler; what may be generated stays as it was."""
    from unmask.pipelines.autotune import restrictions

    sampler = chosen.sampler | restrictions(card.sampler)
    return replace(card, sampler=sampler, scores={**card.scores, "tuning": record})


def _folder(model: str | None, out: Path | None, overwrite: bool) -> Path:
    """Return the folder whose card is written; refuse one that cannot be, before any work."""
    from unmask.models.checkpoint import check_folder, claim

    folder = None if model is None else Path(os.path.expanduser(model))
    if out is not None:
        if folder is not None and folder.resolve() == out.resolve():
            raise UserError("--out is the model itself; leave it out to keep the choice there")
        claim(out, overwrite)
        return out
    require(("--overwrite", not overwrite, "--out"))
    if model is not None:
        options.quiet_libraries()
        from unmask.models.loading import is_local

        is_local(model)  # raises for a path that does not exist
    if folder is None or not folder.is_dir():
        raise UserError("the choice is stored next to the model; for this one pass --out FOLDER")
    check_folder(folder)
    return folder


def _measured(unmasker: Unmasker, text: str, length: int, rows: int, seed: int) -> Tuning:
    from unmask.evaluation.sampler_study import CANDIDATES
    from unmask.pipelines.autotune import measure_samplers
    from unmask.render.console import progress_bar

    with progress_bar() as progress:
        candidates = progress.track(CANDIDATES, description="generating")
        return measure_samplers(
            unmasker, text, candidates=candidates, length=length, rows=rows, seed=seed
        )


def _draw(found: Tuning, path: Path) -> None:
    from unmask.render.plots import Point, sampler_curves

    sampler_curves(
        [Point(t.sampler["name"], t.seconds, t.distance) for t in found.trials],
        path,
        title="Samplers of this model",
        cost="seconds per text",
        floor=("the text itself", found.floor),
    )
