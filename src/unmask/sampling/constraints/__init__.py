"""Constraints on the generated text: sets of tokens, and regular expressions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unmask._names.lazy import lazy

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

__getattr__, __dir__ = lazy(__name__)
