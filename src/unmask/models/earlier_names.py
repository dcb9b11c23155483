"""Names of samplers, options and fields of the card in files that an earlier version wrote."""

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


def today(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a saved card with the names of today."""
    found = _renamed(content, CARD)
    sampler = found.get("sampler")
    if isinstance(sampler, dict):
        found["sampler"] = _chosen(_renamed(sampler, OPTIONS), "name", SAMPLERS)
    return found


def earlier(card: dict[str, Any], options: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the content of a card and the options of a command with the names of before."""
    samplers, names = _turned(SAMPLERS), _turned(OPTIONS)
    sampler = _chosen(_renamed(card["sampler"], names), "name", samplers)
    return [
        _renamed(card | {"sampler": sampler}, _turned(CARD)),
        _chosen(_renamed(options, names), "sampler", samplers),
    ]


def _renamed(content: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in content.items()}


def _chosen(content: dict[str, Any], key: str, names: dict[str, str]) -> dict[str, Any]:
    """Return a table in which the sampler has its other name."""
    name = content.get(key)
    return content | {key: names.get(name, name)} if isinstance(name, str) else content


def _turned(names: dict[str, str]) -> dict[str, str]:
    return {new: old for old, new in names.items()}
