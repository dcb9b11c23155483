"""``unmask info``."""

from __future__ import annotations

import textwrap
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from unmask.cli import options, printing
from unmask.cli.grouped import Command

if TYPE_CHECKING:
    from rich.console import Console

_INTERVALS = {"_95_masks": "95 % over masks", "_95_texts": "95 % over texts", "_95": "95 %"}
"""Suffixes of the names of intervals, added to the name of their number; old cards have _95."""
_TIE = "\xa0"
"""A blank at which no line is broken."""


@click.command("info", cls=Command)
@click.argument("model", required=False)
@options.as_json
def command(model: str | None, as_json: bool) -> None:
    """Show the card of MODEL, a directory or hub id; the one in the package if left out."""
    facts = card_of(model)
    if as_json:
        printing.record(facts)
        return
    from rich.console import Console

    show(facts, Console())


def show(facts: dict[str, Any], console: Console) -> None:
    """Print a card in two columns, as ``card_of`` returns it, without what is empty or zero."""
    from rich.text import Text

    column = 2 + max(map(len, facts))
    for key, value in facts.items():
        if not value:
            continue
        head = key.replace("_", " ")
        for line in map(printing.visible, _lines(value)):
            # In a pipe a fact stays on its line, whatever is to be done with it.
            width = max(20, console.width - column) if console.is_terminal else len(line) + 1
            for piece in textwrap.wrap(line, width, break_on_hyphens=False) or [""]:
                row = Text.assemble(
                    (f"{head:{column}}", "dim"), printing.visible(piece.replace(_TIE, " "))
                )
                console.print(row, soft_wrap=True)
                head = ""


def _lines(value: Any) -> list[str]:
    """Return a fact as lines of words: one for each part that has parts of its own."""
    if not isinstance(value, dict):
        return [_word(value)]
    whole = [f"{name}: {', '.join(_lines(v))}" for name, v in value.items() if isinstance(v, dict)]
    single = {name: v for name, v in value.items() if v is not None and not isinstance(v, dict)}
    parts = []
    for name, v in single.items():
        if any(name.endswith(end) and name.removesuffix(end) in single for end in _INTERVALS):
            continue
        intervals = {label: single.get(f"{name}{end}") for end, label in _INTERVALS.items()}
        known = [f"{label}: {_word(ends)}" for label, ends in intervals.items() if ends]
        ends = f" ({'; '.join(known)})" if known else ""
        # What a thing is called needs no key.
        key = "" if name == "name" else f"{name.replace('_', ' ')}: "
        parts.append(f"{key}{_word(v)}{ends}".replace(" ", _TIE))
    return [", ".join(parts), *whole] if parts else whole


def _word(value: Any) -> str:
    """Return a value as a person writes it: four digits are enough of a fraction."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        joint = " to " if len(value) == 2 and all(isinstance(v, float) for v in value) else " "
        return joint.join(map(_word, value))
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    return str(value)


def card_of(name: str | None) -> dict[str, Any]:
    """Return what is known about a model without loading its weights."""
    options.quiet_libraries()
    from unmask.models import loading
    from unmask.models.runtimes import select

    name = loading.BUNDLED if name is None else name
    config = loading.load_config(name)
    card = loading.load_card(name)
    facts: dict[str, Any] = {
        "model": name,
        "architecture": config.model_type,
        "kind": ", ".join(sorted(loading.model_kinds(config))) or "neither masked nor causal",
        "layers": getattr(config, "num_hidden_layers", None),
        "width": getattr(config, "hidden_size", None),
        "vocabulary": getattr(config, "vocab_size", None),
    }
    if card is None:
        return facts | {"card": "none: not trained by unmask"}
    entry = select.entry_of(name)
    if entry is not None:
        facts["exported"] = f"{entry.backend}, {entry.weights}"
    known = asdict(card)
    training = known.pop("training")
    keys = ("model", "data", "steps", "seconds", "device", "bf16")
    summary = {key: training[key] for key in keys if key in training}
    recipe = training.get("recipe")
    if isinstance(recipe, dict) and "name" in recipe:
        summary = {"recipe": recipe["name"], **summary}
    return facts | known | {"training": summary}
