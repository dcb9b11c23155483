"""Continuing a run: from its last checkpoint, as it was started, and only if it is not finished."""

from __future__ import annotations

import json
import math
import shutil
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from unmask import checkpoint
from unmask.checkpoint import RUN
from unmask.errors import UserError
from unmask.staging import write_failure
from unmask.training.learned import PLOT, REPORT
from unmask.training.progress import CURVE, METRICS, seconds_until
from unmask.training.recipe import Recipe, TrainingSection
from unmask.training.trainer import checkpoints, numbered

MAY_CHANGE = (
    *(f"recipe.training.{key}" for key in ("steps", "minutes", "epochs", "log_every")),
    *(f"recipe.training.{key}" for key in ("evaluate_every", "evaluation_rows", "save_every")),
    *("recipe.training.report_to", "recipe.name", "recipe.summary", "recipe.model.save_dtype"),
)
"""What says how long a run goes on and what it shows, not what it computes in a step."""


class Point(NamedTuple):
    """Where a run continues: the folder of a checkpoint, and the seconds that led to it."""

    folder: Path
    seconds: float


def describe(
    recipe: Recipe, model: str | None, data: str, validation: str | None
) -> dict[str, Any]:
    """Return what a run is: its recipe and the names of its model and texts, fit for JSON."""
    recipe_as_json = json.loads(json.dumps(asdict(recipe)))
    return {"recipe": recipe_as_json, "model": model, "data": data, "validation": validation}


def begin(work: Path, what: dict[str, Any]) -> None:
    """Remove what an earlier run left in its folder, nothing else, and note what this one is."""
    for path in [*numbered(work), work / ".partial"]:
        shutil.rmtree(path, ignore_errors=True)
    for name in (METRICS, CURVE, PLOT, REPORT):
        (work / name).unlink(missing_ok=True)
    try:
        work.mkdir(parents=True, exist_ok=True)
        (work / RUN).write_text(json.dumps(what, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write to {work}: {write_failure(error)}") from error


def last_checkpoint(work: Path, what: dict[str, Any], training: TrainingSection) -> Point:
    """Return the checkpoint that a run continues from.

    Args:
        work: Folder of the checkpoints.
        what: What the run is to be; see ``describe``.
        training: How long it is to go on.

    Raises:
        UserError: If there is none, the run was started differently, or it has come to its end.
    """
    found = checkpoints(work)
    if not found:
        raise UserError(f"there is no checkpoint in {work} to resume from; leave out --resume")
    if (work / RUN).is_file():
        _check_same(checkpoint.read_json(work / RUN, "start anew with --overwrite"), what)
    state = _state(found[-1])
    step, seconds = state["global_step"], seconds_until(work / METRICS, state["global_step"])
    key, limit, done = (
        ("steps", training.steps, step)
        if training.steps
        else ("minutes", training.minutes, seconds / 60)
        if training.minutes
        else ("epochs", training.epochs, state["epoch"])
    )
    if done >= limit:
        raise UserError(
            f"the run in {work} came to its end after {step} steps; to go on, set "
            f"training.{key} higher than {math.floor(done)}"
        )
    return Point(found[-1], seconds)


def _state(folder: Path) -> dict[str, Any]:
    """Return the state of the Trainer in a checkpoint that can be continued from.

    Raises:
        UserError: If a file of it is missing or damaged.
    """
    remedy = f"remove {folder.name} to resume from the checkpoint before it, or start anew"
    state = checkpoint.read_json(folder / "trainer_state.json", remedy)
    for key in ("global_step", "epoch"):
        if not isinstance(state.get(key), int | float):
            raise UserError(f"{folder / 'trainer_state.json'} is damaged (no {key}); {remedy}")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        # What torch saves is a zip archive, whose directory comes last.
        if not zipfile.is_zipfile(folder / name):
            raise UserError(f"{folder / name} is missing or damaged; {remedy}")
    return state


def _check_same(before: dict[str, Any], now: dict[str, Any]) -> None:
    # A run of an older version knew fewer keys: those it did not know had their defaults.
    defaults = {"recipe": json.loads(json.dumps(asdict(Recipe())))}
    # There was no such limit.
    defaults["recipe"]["training"]["warmup_share"] = 1.0
    old, new = _flat(defaults) | _flat(before), _flat(now)
    for key in sorted({*old, *new}):
        if key not in MAY_CHANGE and old.get(key) != new.get(key):
            raise UserError(
                f"this run was started with {key} = {old.get(key)!r}, now it is "
                f"{new.get(key)!r}; --resume continues a run as it was, so pass the same, or "
                "start anew with --overwrite"
            )


def _flat(tree: dict[str, Any], where: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{where}{key}.")
        else:
            flat[where + key] = value
    return flat
