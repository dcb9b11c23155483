"""``unmask info``."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from unmask.cli import options


@click.command("info")
@click.argument("model", required=False)
@options.as_json
def command(model: str | None, as_json: bool) -> None:
    """Show the card of MODEL, a directory or hub id; the one in the package if left out."""
    facts = card_of(model)
    if as_json:
        click.echo(json.dumps(facts))
        return
    for key, value in facts.items():
        shown = value if not isinstance(value, dict) else json.dumps(value)
        click.echo(f"{key:14} {shown}")


def card_of(name: str | None) -> dict[str, Any]:
    """Return what is known about a model without loading its weights."""
    options.quiet_libraries()
    from unmask.adapters import backends, loading

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
        return facts | {"card": "none: not trained by unmask; opens as it is"}
    entry = backends.entry_of(name)
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
