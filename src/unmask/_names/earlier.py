"""Names of an earlier version, in files that it wrote and in what its users remember."""

from __future__ import annotations

from typing import Any

CARD = {"length": "sequence_length"}
SAMPLERS = {
    "random-quota": "random",
    "confidence": "threshold",
    "schedule-confidence": "maskgit",
    "confidence-factor": "fast-dllm-factor",
    "remask-capped": "remdm-cap",
    "remask-rescaled": "remdm-rescale",
    "remask-least-sure": "remdm-conf",
    "remask-loop": "remdm-loop",
    "remask-next-rate": "remdm-next-rate",
    "remask-forward-backward": "forward-backward",
    "keep-likeliest": "p2",
    "confidence-edit": "threshold-edit",
}
OPTIONS = {
    "measure": "confidence_metric",
    "order_temperature": "alg_temperature",
    "edit_below": "edit_threshold",
}
RECIPE = {"schedule": "lr_schedule"}
"""Keys of ``[training]``."""
NEW = ("images",)
"""Fields of a card that it did not have."""
ALL = CARD | SAMPLERS | OPTIONS | RECIPE


def card_today(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a saved card with the names of today."""
    return _with_sampler(_renamed(content, CARD))


def recipe_today(content: dict[str, Any]) -> dict[str, Any]:
    """Return a saved recipe with the names of today."""
    training = content.get("training")
    found = {"training": _renamed(training, RECIPE)} if isinstance(training, dict) else {}
    return _with_sampler(content | found)


def card_and_options(card: dict[str, Any], options: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the content of a card and the options of a command with the names of before."""
    samplers, names = _turned(SAMPLERS), _turned(OPTIONS)
    card = {name: value for name, value in card.items() if name not in NEW}
    sampler = _chosen(_renamed(card["sampler"], names), "name", samplers)
    return [
        _renamed(card | {"sampler": sampler}, _turned(CARD)),
        _chosen(_renamed(options, names), "sampler", samplers),
    ]


def _with_sampler(content: dict[str, Any]) -> dict[str, Any]:
    """Return a table in which the default sampler and its options have the names of today."""
    sampler = content.get("sampler")
    if not isinstance(sampler, dict):
        return content
    return content | {"sampler": _chosen(_renamed(sampler, OPTIONS), "name", SAMPLERS)}


def _renamed(content: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in content.items()}


def _chosen(content: dict[str, Any], key: str, names: dict[str, str]) -> dict[str, Any]:
    """Return a table in which the sampler has its other name."""
    name = content.get(key)
    return content | {key: names.get(name, name)} if isinstance(name, str) else content


def _turned(names: dict[str, str]) -> dict[str, str]:
    return {new: old for old, new in names.items()}
