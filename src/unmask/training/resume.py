"""Resume a run: from its last checkpoint, with the same recipe and data, if it is not finished."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from unmask._names.earlier import recipe_today
from unmask.errors import UserError
from unmask.files import PARTIAL, write_failure, write_text
from unmask.models import checkpoint
from unmask.models.checkpoint import RUN
from unmask.training.checkpoints import check_whole, checkpoints, numbered
from unmask.training.progress import CURVE, METRICS, seconds_until
from unmask.training.recipe import Recipe
from unmask.training.recipe_file import names
from unmask.training.schedule_report import PLOT, REPORT
from unmask.training.sections import TrainingSection

MAY_CHANGE = (
    *(f"recipe.training.{key}" for key in ("steps", "minutes", "epochs", "log_every")),
    *(f"recipe.training.{key}" for key in ("evaluate_every", "evaluation_rows", "save_every")),
    *("recipe.training.report_to", "recipe.name", "recipe.summary", "recipe.model.save_dtype"),
)
"""Keys that change how long a run is and what it shows, not what a step computes."""

LENGTH = ("steps", "minutes", "epochs")
"""Keys of ``training`` that set the length of a run."""

CONTENT, FINISHED = "content", "finished"
"""Further keys of a run's note: a hash of its texts, and the step of the finished model."""


class Point(NamedTuple):
    """Where a run continues.

    Attributes:
        folder: The checkpoint.
        seconds: Duration of the run up to it.
        ended: Whether only validation and saving of the model are left.
    """

    folder: Path
    seconds: float
    ended: bool


def describe(
    recipe: Recipe, model: str | None, data: str, validation: str | None
) -> dict[str, Any]:
    """Return the description of a run for JSON: its recipe and the names of its model and texts."""
    recipe_as_json = json.loads(json.dumps(asdict(recipe)))
    return {"recipe": recipe_as_json, "model": model, "data": data, "validation": validation}


def begin(work: Path, what: dict[str, Any], content: str) -> None:
    """Remove only what an earlier run left in its folder, and write the note of this run.

    Args:
        work: Folder of the checkpoints.
        what: Description of the run; see ``describe``.
        content: A hash of its texts.
    """
    for path in [*numbered(work), work / PARTIAL]:
        shutil.rmtree(path, ignore_errors=True)
    for name in (METRICS, CURVE, PLOT, REPORT):
        (work / name).unlink(missing_ok=True)
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {work}: {write_failure(error)}") from error
    _note(work, what | {CONTENT: content})


def finish(work: Path, step: int, keep: bool) -> None:
    """Add to the note of a run that its model is saved.

    Args:
        work: Folder of the checkpoints.
        step: Optimiser steps that the model was trained for.
        keep: Whether the checkpoints are kept, so that the run can be continued.
    """
    _note(work, _noted(work) | {FINISHED: step})
    shutil.rmtree(work / PARTIAL, ignore_errors=True)
    for folder in [] if keep else checkpoints(work):
        shutil.rmtree(folder, ignore_errors=True)


def _note(work: Path, content: dict[str, Any]) -> None:
    write_text(work / RUN, json.dumps(content, indent=2) + "\n")


def _noted(work: Path) -> dict[str, Any]:
    if not (work / RUN).is_file():
        return {}
    return checkpoint.read_json(work / RUN, "start anew with --overwrite")


def as_long(work: Path, recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """Return the recipe of a resumed run with the length that the run was started with.

    A length that the caller sets is kept, and so is one that a recipe file gives in the same key,
    which its user may have raised. Without a note of the run the recipe is returned as it is.

    Args:
        work: Folder of the checkpoints.
        recipe: The recipe, with the settings applied.
        settings: Those of the caller, ``section.key=value``.
    """
    noted = _noted(work).get("recipe", {})
    then = {key: noted.get("training", {}).get(key, 0) for key in LENGTH}
    now = {key: getattr(recipe.training, key) for key in LENGTH}
    chosen = {text.partition("=")[0].strip() for text in settings}
    if chosen & {f"training.{key}" for key in LENGTH} or not any(then.values()):
        return recipe
    same = all(bool(then[key]) == bool(now[key]) for key in LENGTH)
    if same and recipe.name not in names():
        return recipe
    return replace(recipe, training=replace(recipe.training, **then))


def last_checkpoint(work: Path, what: dict[str, Any], training: TrainingSection) -> Point | None:
    """Return the checkpoint that a run continues from, None if it stopped before its first.

    Args:
        work: Folder of the checkpoints.
        what: Description of the run; see ``describe``.
        training: Holds its length.

    Raises:
        UserError: If there is no such run, its checkpoint is damaged, it was started differently,
            or its model is already saved.
    """
    found, noted = checkpoints(work), _noted(work)
    if not found and (not noted or FINISHED in noted):
        raise UserError(f"there is no checkpoint in {work} to resume from; leave out --resume")
    if noted:
        _check_same({k: v for k, v in noted.items() if k not in (CONTENT, FINISHED)}, what)
    if not found:
        return None
    seconds = check_whole(found[-1])
    state = _state(found[-1])
    step = state["global_step"]
    seconds = max(seconds, seconds_until(work / METRICS, step))
    key, limit, done = (
        ("steps", training.steps, step)
        if training.steps
        else ("minutes", training.minutes, seconds / 60)
        if training.minutes
        else ("epochs", training.epochs, state["epoch"])
    )
    if done >= limit and noted.get(FINISHED) == step:
        raise UserError(
            f"the run in {work} came to its end after {step} steps; to go on, set "
            f"training.{key} higher than {math.floor(done)}"
        )
    return Point(found[-1], seconds, done >= limit)


def check_content(work: Path, content: str) -> None:
    """Raise a UserError if a run was started with texts of another hash."""
    if _noted(work).get(CONTENT, content) != content:
        raise UserError(
            "this run was started with other texts under the same name; --resume continues a run "
            "as it was, so pass the same data, or start anew with --overwrite"
        )


def _state(folder: Path) -> dict[str, Any]:
    """Return the state of the Trainer in a checkpoint.

    Raises:
        UserError: If it is damaged.
    """
    remedy = f"remove {folder.name} to resume from the checkpoint before it, or start anew"
    state = checkpoint.read_json(folder / "trainer_state.json", remedy)
    for key in ("global_step", "epoch"):
        if not isinstance(state.get(key), int | float):
            raise UserError(f"{folder / 'trainer_state.json'} is damaged (no {key}); {remedy}")
    return state


def _check_same(before: dict[str, Any], now: dict[str, Any]) -> None:
    # An older version had fewer keys: the missing ones have their defaults.
    defaults = {"recipe": json.loads(json.dumps(asdict(Recipe())))}
    # It had no such limit.
    defaults["recipe"]["training"]["warmup_share"] = 1.0
    known = before | {"recipe": recipe_today(before.get("recipe", {}))}
    old, new = _flat(defaults) | _flat(known), _flat(now)
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
