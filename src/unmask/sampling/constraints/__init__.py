"""Constraints on the generated text: sets of tokens, and regular expressions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unmask._names.lazy import lazy

if TYPE_CHECKING:
    from unmask.sampling.constraints.matching import Allowed as Allowed
    from unmask.sampling.constraints.matching import Matching as Matching
    from unmask.sampling.constraints.regex import Dfa as Dfa
    from unmask.sampling.constraints.regex import compile_regex as compile_regex
    from unmask.sampling.constraints.token_automaton import Automaton as Automaton

__getattr__, __dir__ = lazy(__name__)
