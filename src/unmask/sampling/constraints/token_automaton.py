r"""Finite automata over tokens, with forward and backward sums over all accepted sequences.

Tokens that lead from every state to the same state form one class, so the sums are over a few
classes and not the vocabulary. With log-weights w_i(c) of class c at position i,

    after_i(s)  = log sum over c of exp(w_i(c) + after_{i+1}(next(s, c)))      (backward)
    before_i(s) = log sum over (r, c) with next(r, c) = s of exp(before_{i-1}(r) + w_{i-1}(c))

are the log-weights of all accepted continuations from a state, and of all paths to it.

Reference: Rabiner 1989, "A Tutorial on Hidden Markov Models", Proc. IEEE 77(2), here with the
states of an automaton in place of hidden states.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from unmask.errors import UserError
from unmask.sampling.constraints.regex import Dfa, compile_regex

# Numbers to process at a time.
_PIECE = 2**22
MAX_TABLE = 2**26
"""Most entries of the table of states by texts of tokens, four bytes each."""
MAX_STEPS, MAX_SUMS = 5e8, 2**25
"""Most steps through the automaton, and most sums kept, in one pass over some blanks."""


@dataclass(frozen=True, eq=False)
class Automaton:
    """A deterministic automaton over classes of tokens.

    Attributes:
        of_token: Shape (V,), int64; the class of each token. Class 0 leads to the dead state.
        next: Shape (S, C), int64; the state after a class. State 0 is dead, state 1 the start.
        accepting: Shape (S,), bool.
    """

    of_token: Tensor
    next: Tensor
    accepting: Tensor

    @classmethod
    def from_regex(cls, pattern: str, texts: Mapping[int, str], vocab_size: int) -> Automaton:
        """Build the automaton of the token sequences whose joined text matches as a whole.

        Args:
            pattern: See ``compile_regex``.
            texts: The text of each id that has any; the others are never accepted.
            vocab_size: V.

        Raises:
            UserError: As ``compile_regex``, or if no sequence of tokens matches.
        """
        texts = {token: text for token, text in texts.items() if token < vocab_size}
        dfa = compile_regex(pattern, sorted(set().union(*texts.values())))
        spellings = sorted({_spelling(dfa, text) for text in texts.values()})
        reached, table = _token_steps(dfa, spellings)
        accepting = torch.tensor([dfa.accepting[state] for state in reached])
        alive = _leading_to(accepting, table)
        if not alive[1]:
            raise UserError(
                f"no text of this model's tokens matches {pattern!r}; change the expression"
            )
        table, accepting = _renumbered(table, alive), accepting[alive]
        # Column 0 is that of every token without a text.
        table = torch.cat([torch.zeros_like(table[:, :1]), table], 1)
        columns, of_spelling = table.unique(dim=1, return_inverse=True)
        if columns[:, 0].any():
            raise AssertionError("the column that leads nowhere must sort first")
        of_token = torch.zeros(vocab_size, dtype=torch.int64)
        place = {spelling: i for i, spelling in enumerate(spellings, start=1)}
        for token, text in texts.items():
            of_token[token] = of_spelling[place[_spelling(dfa, text)]]
        return cls(of_token, columns.long(), accepting)

    def without(self, phrases: Sequence[Sequence[int]]) -> Automaton:
        """Return the automaton of the accepted sequences that contain none of some phrases.

        It is the product with an automaton whose states are prefixes of phrases.

        Args:
            phrases: Sequences of ids that must not occur.

        Raises:
            UserError: If no sequence is left.

        Reference: Aho, Corasick 1975, "Efficient String Matching", Communications of the ACM 18(6).
        """
        read = [p for p in map(tuple, phrases) if all(int(self.of_token[i]) for i in p)]
        if not read:
            return self
        ids = sorted({i for phrase in read for i in phrase})
        goto = torch.tensor(_prefix_steps(read, ids))  # (P, 1 + ids), -1 where a phrase is complete
        if self.next.numel() * len(goto) > MAX_TABLE:
            raise UserError(
                f"{len(read)} texts are too many to ban for a regular expression with "
                f"{len(self.next)} states over the tokens; make it simpler"
            )
        # The tokens of phrases are classes of their own; the other classes stay.
        kinds = [*range(self.next.shape[1]), *self.of_token[ids].tolist()]
        symbols = torch.tensor([0] * self.next.shape[1] + [*range(1, 1 + len(ids))])
        of_token = self.of_token.clone()
        of_token[ids] = torch.arange(len(ids)) + self.next.shape[1]
        # A class whose tokens are all in phrases is empty and must be removed.
        used = torch.cat([of_token, of_token.new_zeros(1)]).unique()
        of_token = torch.searchsorted(used, of_token)
        states, steps = self.next[:, None, kinds][..., used], goto[None, :, symbols][..., used]
        table = (states * len(goto) + steps).masked_fill((states == 0) | (steps < 0), 0)
        table = table.flatten(0, 1)
        accepting = self.accepting.repeat_interleave(len(goto))
        start = len(goto)
        alive = _leading_to(accepting, table) & _reached_from(start, table)
        if not alive[start]:
            raise UserError("no text matches without what is banned; change the expression")
        alive[0] = True
        # State 1 must be the start, preceded by the dead state alone.
        alive[1:start] = False
        return Automaton(of_token, _renumbered(table, alive), accepting[alive])

    def up_to(self, end: int) -> Automaton:
        """Return the automaton that also accepts an end symbol and any tokens after a match.

        Args:
            end: The id of the end symbol.
        """
        states, classes = self.next.shape
        # After the end symbol all tokens are accepted: class 0 becomes one more class.
        table = torch.zeros(states + 1, classes + 2, dtype=torch.int64)
        table[:states, :classes] = self.next
        table[:states, classes] = self.accepting * states
        table[states] = states
        of_token = torch.where(self.of_token == 0, classes + 1, self.of_token)
        of_token[end] = classes
        return Automaton(of_token, table, torch.cat([self.accepting, torch.tensor([True])]))

    def to(self, device: torch.device) -> Automaton:
        """Return the same automaton on a device."""
        return Automaton(*(x.to(device) for x in (self.of_token, self.next, self.accepting)))

    @cached_property
    def read(self) -> Tensor:
        """The ids outside class 0, int64."""
        return self.of_token.nonzero()[:, 0]

    @cached_property
    def _edges(self) -> tuple[Tensor, Tensor, Tensor]:
        """Sources, classes and targets of all steps except into the dead state, (E,) each."""
        source, kind = self.next.nonzero(as_tuple=True)
        return source, kind, self.next[source, kind]

    def weigh(self, logits: Tensor, temperature: float, hard: bool) -> Tensor:
        """Return log-weights of the classes, (N, C), float64, from logits of tokens, (N, V).

        The weight of a class is the sum over its tokens at a temperature, or the maximum if
        ``hard``.
        """
        read = self.read
        kind, size = self.of_token[read], self.next.shape[1]
        pieces = logits.split(max(1, _PIECE // len(read)))
        return torch.cat(
            [_gathered(p[:, read].double() / temperature, kind, size, hard) for p in pieces]
        )

    def check(self, inside: Tensor) -> None:
        """Raise a UserError if blanks are too many or too long for an automaton of this size.

        Args:
            inside: Shape (R, n), bool; see ``backward``.
        """
        cells, states = inside.numel(), len(self.next)
        if cells * len(self._edges[0]) > MAX_STEPS or cells * states > MAX_SUMS:
            rows, length = inside.shape
            raise UserError(
                f"{rows} blanks of up to {length} tokens are too many for a regular expression "
                f"with {states} states over the tokens; make it simpler, or the blanks fewer or "
                "shorter"
            )

    def backward(self, weights: Tensor, inside: Tensor, hard: bool) -> Tensor:
        """Return ``after``, shape (n + 1, R, S), float64.

        Args:
            weights: Shape (R, n, C), float64; -inf for impossible classes.
            inside: Shape (R, n), bool; positions where it is False are skipped.
            hard: Take the maximum over continuations instead of the sum.
        """
        pieces = self._few_at_a_time(weights, inside)
        return torch.cat([self._backward(*piece, hard) for piece in pieces], 1)

    def _few_at_a_time(self, weights: Tensor, inside: Tensor) -> Iterable[tuple[Tensor, Tensor]]:
        few = max(1, _PIECE // max(1, len(self._edges[0])))
        return zip(weights.split(few), inside.split(few), strict=True)

    def _backward(self, weights: Tensor, inside: Tensor, hard: bool) -> Tensor:
        source, kind, target = self._edges
        last = torch.where(self.accepting, 0.0, -torch.inf).double()
        after = [last.expand(len(weights), -1)]
        for i in reversed(range(weights.shape[1])):
            steps = weights[:, i, kind] + after[-1][:, target]
            read = _gathered(steps, source, len(self.next), hard)
            after.append(torch.where(inside[:, i, None], read, after[-1]))
        return torch.stack(after[::-1])

    def forward(self, weights: Tensor, inside: Tensor) -> Tensor:
        """Return ``before``, shape (n + 1, R, S), float64; arguments as for ``backward``."""
        pieces = self._few_at_a_time(weights, inside)
        return torch.cat([self._forward(*piece) for piece in pieces], 1)

    def _forward(self, weights: Tensor, inside: Tensor) -> Tensor:
        source, kind, target = self._edges
        first = weights.new_full((len(weights), len(self.next)), -torch.inf)
        first[:, 1] = 0
        before = [first]
        for i in range(weights.shape[1]):
            steps = before[-1][:, source] + weights[:, i, kind]
            read = _gathered(steps, target, len(self.next), hard=False)
            before.append(torch.where(inside[:, i, None], read, before[-1]))
        return torch.stack(before)


def _gathered(values: Tensor, group: Tensor, size: int, hard: bool) -> Tensor:
    """Return log-sum-exp of the values of each of ``size`` groups, or their maximum.

    Args:
        values: Shape (R, K), floating point.
        group: Shape (K,), int64; the group of each column.
        size: Number of groups.
        hard: Maximum instead of sum.

    Returns:
        Shape (R, size), float64; -inf for an empty group.
    """
    index = group.expand(len(values), -1)
    top = values.new_full((len(values), size), -torch.inf)
    top = top.scatter_reduce(1, index, values, "amax")
    if hard:
        return top.double()
    # Relative to the maximum of each group: a class of probability e^-800 is not impossible.
    level = torch.where(top.isneginf(), 0.0, top)
    parts = (values - level.gather(1, index)).exp().double()
    return torch.zeros_like(top, dtype=parts.dtype).scatter_add_(1, index, parts).log() + level


def _spelling(dfa: Dfa, text: str) -> tuple[int, ...]:
    return tuple(dfa.column[character] for character in text)


def _token_steps(dfa: Dfa, spellings: list[tuple[int, ...]]) -> tuple[list[int], Tensor]:
    """Return the states reached by whole tokens, and the transitions between them.

    States are numbered in the order of discovery: 0 is dead, 1 the start.

    Returns:
        S states of the ``Dfa``, and a table (S, number of spellings) of indices into that list.
    """
    longest = max(map(len, spellings))
    stay = len(dfa.rows[0])
    table = torch.tensor([[*row, state] for state, row in enumerate(dfa.rows)])
    padded = torch.tensor([[*s, *[stay] * (longest - len(s))] for s in spellings])
    if len(dfa.rows) * len(spellings) > MAX_TABLE:
        raise UserError(
            f"a regular expression with {len(dfa.rows)} states needs too much memory for the "
            f"{len(spellings)} different texts that its tokens are to it; make it simpler"
        )
    place = torch.full((len(dfa.rows),), -1)
    found, steps = [0, 1], []
    place[:2] = torch.arange(2)
    done, at_once = 0, max(1, _PIECE // len(spellings))
    while done < len(found):
        now = torch.tensor(found[done : done + at_once])
        done += len(now)
        state = now[:, None].expand(-1, len(spellings))
        for k in range(longest):
            state = table[state, padded[:, k]]
        steps.append(state.to(torch.int32))
        new = [s for s in state.unique().tolist() if place[s] < 0]
        place[new] = torch.arange(len(found), len(found) + len(new))
        found += new
    return found, torch.cat([place[step.long()].to(torch.int32) for step in steps])


def _prefix_steps(phrases: Sequence[tuple[int, ...]], ids: Sequence[int]) -> list[list[int]]:
    """Return the transitions of each prefix of a phrase: by any other token, and by each of ids.

    The state is the longest prefix that is a suffix of the tokens read, 0 for the empty one; -1
    marks a complete phrase.
    """
    known = sorted({p[:k] for p in phrases for k in range(len(p))}, key=lambda b: (len(b), b))
    place = {prefix: i for i, prefix in enumerate(known)}

    def step(prefix: tuple[int, ...], token: int) -> int:
        tails = [(*prefix, token)[k:] for k in range(len(prefix) + 2)]
        if any(tail in phrases for tail in tails):
            return -1
        return next(place[tail] for tail in tails if tail in place)

    return [[0, *(step(prefix, token) for token in ids)] for prefix in known]


def _reached_from(start: int, table: Tensor) -> Tensor:
    """Return the states that can be reached from ``start``, shape (S,), bool."""
    reached = torch.zeros(len(table), dtype=torch.bool)
    reached[start] = True
    while True:
        more = reached.clone()
        more[table[reached].unique()] = True
        if torch.equal(more, reached):
            return reached
        reached = more


def _leading_to(accepting: Tensor, table: Tensor) -> Tensor:
    """Return the states from which an accepting one can be reached, and state 0, shape (S,)."""
    alive = accepting
    while True:
        more = alive | alive[table].any(1)
        if torch.equal(more, alive):
            break
        alive = more
    alive = alive.clone()
    alive[0] = True
    return alive


def _renumbered(table: Tensor, kept: Tensor) -> Tensor:
    number = torch.where(kept, kept.cumsum(0) - 1, 0)
    return number[table[kept]]
