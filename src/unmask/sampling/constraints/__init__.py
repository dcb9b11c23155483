"""Constraints on the generated text: sets of tokens, and regular expressions."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unmask.sampling.constraints.matching import Allowed, Matching
    from unmask.sampling.constraints.regex import Dfa, compile_regex
    from unmask.sampling.constraints.token_automaton import Automaton

__all__ = [
    "Allowed",
    "Automaton",
    "Dfa",
    "Matching",
    "compile_regex",
]

_HOMES = {
    "unmask.sampling.constraints.matching": "Allowed Matching",
    "unmask.sampling.constraints.regex": "Dfa compile_regex",
    "unmask.sampling.constraints.token_automaton": "Automaton",
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names.split():
            return getattr(import_module(home), name)
    raise AttributeError(f"module 'unmask.sampling.constraints' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
