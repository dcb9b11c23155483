r"""Regular expressions as finite automata over characters, with the syntax of Python's ``re``.

    whole text matches  <=>  reading it from the start leads to an accepting state

A position automaton: every piece of a pattern that matches one character is a position, with
counted repetitions expanded, and a state is the set of positions that may be read next. ``re``
itself decides which characters a piece matches, so classes, escapes and flags mean the same.
Patterns that no finite automaton can match (back-references) or that look beyond the text
(lookaround, word boundaries) are refused.

References: Glushkov 1961, "The Abstract Theory of Automata", Russian Math. Surveys 16(5);
McNaughton, Yamada 1960, "Regular Expressions and State Graphs for Automata", IRE Trans. EC-9.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from unmask.errors import UserError

MAX_POSITIONS = 4000
MAX_STATES = 5000
MAX_WORK = 10_000_000
"""Most steps to build an automaton, each of about a microsecond."""
_CHARACTER = re.compile(
    r"""\\(?: x[0-9a-fA-F]{2} | u[0-9a-fA-F]{4} | U[0-9a-fA-F]{8} | N\{[^}]+\}
            | 0[0-7]{0,2} | [0-7]{3} | [^1-9AbBZz] )
      | \[\^?\]?(?: \\. | [^\]\\] )*\]
      | [^()|*+?^$\\]""",
    re.VERBOSE | re.DOTALL,
)
_REPEAT = re.compile(r"(?:([*+?])|\{(?=[\d,])(\d*)(,?)(\d*)\})([?+]?)")
_OPEN = re.compile(r"\((?:\?:|\?P<\w+>|(?!\?))")
_FLAGS = re.compile(r"\(\?[aimsu]+\)")
# The whole text has to match anyway, so these have no effect at the ends of a pattern.
_BEGIN, _END = re.compile(r"\^|\\A"), re.compile(r"\$|\\[Zz]")


@dataclass(frozen=True)
class Dfa:
    """A deterministic automaton over the characters of an alphabet.

    Attributes:
        column: The column of each character of the alphabet.
        rows: The next state, by state and column. State 0 is dead, state 1 is the start.
        accepting: For each state, whether the text so far matches.
    """

    column: dict[str, int]
    rows: list[list[int]]
    accepting: list[bool]

    def matches(self, text: str) -> bool:
        """Return whether a whole text over the alphabet matches."""
        state = 1
        for character in text:
            state = self.rows[state][self.column[character]]
        return self.accepting[state]


def compile_regex(pattern: str, alphabet: Iterable[str]) -> Dfa:
    """Build the automaton of the texts that a pattern matches as a whole.

    One leading space is ignored: " 42" matches if "42" does.

    Args:
        pattern: In the syntax of ``re``.
        alphabet: Characters that can occur.

    Raises:
        UserError: If the pattern is invalid, not a regular language, or too large.
    """
    positions = _Positions(pattern)
    try:
        flags = re.compile(pattern).flags
        tree = _Sequence((_Repeat(_Atom(" "), 0, 1), _Reader(pattern).whole()))
        part = tree.lay(positions)
    except (re.error, OverflowError, RecursionError) as error:
        raise UserError(f"cannot read the regular expression {pattern!r}: {error}") from error
    return _determinised(positions, part, flags & (re.IGNORECASE | re.DOTALL | re.ASCII), alphabet)


# --- the pattern as a tree ---


class _Part(NamedTuple):
    """Whether a piece of a pattern may be empty, and the positions it begins and ends with.

    Sets of positions are integers with one bit per position.
    """

    empty: bool
    first: int
    last: int


class _Positions:
    """The positions of a pattern: what each matches, and what may follow it. 0 is the end."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.atoms = [""]
        self.follow = [0]
        self._work = 0

    def add(self, atom: str) -> int:
        self.expand_to(len(self.atoms))
        self.atoms.append(atom)
        self.follow.append(0)
        return 1 << len(self.atoms) - 1

    def expand_to(self, count: int) -> None:
        self.check(count, MAX_POSITIONS, "characters when its repetitions are expanded")

    def check(self, count: int, most: int, what: str) -> None:
        if count > most:
            raise UserError(
                f"the regular expression {self.pattern[:200]!r} needs more than {most} {what}; "
                "make it simpler, or its counts smaller"
            )

    def spend(self, work: int) -> None:
        self._work += work
        self.check(self._work, MAX_WORK, "steps of work")

    def link(self, last: int, first: int) -> None:
        self.spend(1 + last.bit_count())
        for position in _bits(last):
            self.follow[position] |= first


@dataclass(frozen=True)
class _Atom:
    text: str

    def is_nothing(self) -> bool:
        return False

    def lay(self, positions: _Positions) -> _Part:
        bit = positions.add(self.text)
        return _Part(False, bit, bit)


@dataclass(frozen=True)
class _Sequence:
    items: tuple[_Node, ...]

    def is_nothing(self) -> bool:
        return all(item.is_nothing() for item in self.items)

    def lay(self, positions: _Positions) -> _Part:
        whole = _Part(True, 0, 0)
        for item in self.items:
            whole = _joined(positions, whole, item.lay(positions))
        return whole


@dataclass(frozen=True)
class _Choice:
    options: tuple[_Node, ...]

    def is_nothing(self) -> bool:
        return all(option.is_nothing() for option in self.options)

    def lay(self, positions: _Positions) -> _Part:
        empty, first, last = False, 0, 0
        for part in [option.lay(positions) for option in self.options]:
            empty, first, last = empty or part.empty, first | part.first, last | part.last
        return _Part(empty, first, last)


@dataclass(frozen=True)
class _Repeat:
    item: _Node
    least: int
    most: int | None

    def is_nothing(self) -> bool:
        return self.item.is_nothing()

    def lay(self, positions: _Positions) -> _Part:
        positions.expand_to(max(self.least, self.most or 0))
        if self.item.is_nothing():
            # However often it is repeated, it has no positions.
            return _Part(True, 0, 0)
        whole = _Sequence((self.item,) * self.least).lay(positions)
        if self.most is None:
            again = self.item.lay(positions)
            positions.link(again.last, again.first)
            return _joined(positions, whole, again._replace(empty=True))
        # x{0,3} is (x(x(x)?)?)?, from the inside out.
        rest = _Part(True, 0, 0)
        for _ in range(self.most - self.least):
            rest = _joined(positions, self.item.lay(positions), rest)._replace(empty=True)
        return _joined(positions, whole, rest)


_Node: TypeAlias = _Atom | _Sequence | _Choice | _Repeat


def _joined(positions: _Positions, left: _Part, right: _Part) -> _Part:
    positions.link(left.last, right.first)
    return _Part(
        left.empty and right.empty,
        left.first | (right.first if left.empty else 0),
        right.last | (left.last if right.empty else 0),
    )


def _bits(number: int) -> Iterator[int]:
    while number:
        lowest = number & -number
        yield lowest.bit_length() - 1
        number ^= lowest


class _Reader:
    """A parser of patterns that ``re`` has accepted."""

    def __init__(self, pattern: str) -> None:
        self.pattern, self.place = pattern, 0

    def whole(self) -> _Node:
        self._take(_FLAGS)
        self._take(_BEGIN)
        node = self._choice()
        if self.place < len(self.pattern):
            raise self._refusal()
        return node

    def _take(self, kind: re.Pattern[str]) -> re.Match[str] | None:
        found = kind.match(self.pattern, self.place)
        self.place = found.end() if found else self.place
        return found

    def _choice(self) -> _Node:
        options = [self._sequence()]
        while self.pattern.startswith("|", self.place):
            self.place += 1
            options.append(self._sequence())
        return _Choice(tuple(options)) if len(options) > 1 else options[0]

    def _sequence(self) -> _Node:
        items: list[_Node] = []
        while self.place < len(self.pattern) and self.pattern[self.place] not in "|)":
            end = _END.match(self.pattern, self.place)
            if end is not None and end.end() == len(self.pattern):
                self.place = end.end()
                break
            items.append(self._repeated(self._single()))
        return _Sequence(tuple(items))

    def _single(self) -> _Node:
        if self._take(_OPEN):
            node = self._choice()
            self.place += 1
            return node
        found = self._take(_CHARACTER)
        if found is None:
            raise self._refusal()
        return _Atom(found.group())

    def _repeated(self, node: _Node) -> _Node:
        found = self._take(_REPEAT)
        if found is None:
            return node
        sign, least, comma, most, manner = found.groups()
        if manner == "+":
            self.place = found.start(5)
            raise self._refusal()
        if sign:
            return _Repeat(node, int(sign == "+"), 1 if sign == "?" else None)
        if not comma:
            return _Repeat(node, int(least), int(least))
        return _Repeat(node, int(least or 0), int(most) if most else None)

    def _refusal(self) -> UserError:
        return UserError(
            f"the regular expression {self.pattern!r} uses at position {self.place} what cannot be "
            "kept token by token: lookaround, back-references, word boundaries, possessive "
            "repetition, flags within, the flag x, and ^ or $ anywhere but at its ends"
        )


# --- the automaton ---


def _determinised(positions: _Positions, part: _Part, flags: int, alphabet: Iterable[str]) -> Dfa:
    positions.link(part.last, 1)
    accepted = _columns(positions, flags, alphabet)
    kinds = list(dict.fromkeys(accepted.values()))
    number = {kind: i for i, kind in enumerate(kinds)}
    states = {0: 0, part.first | int(part.empty): 1}
    rows: list[list[int]] = []
    for state in (pending := list(states)):
        rows.append([])
        for kind in kinds:
            after = 0
            positions.spend(1 + (state & kind).bit_count())
            for position in _bits(state & kind):
                after |= positions.follow[position]
            if after not in states:
                states[after] = len(states)
                pending.append(after)
            rows[-1].append(states[after])
        positions.check(len(states), MAX_STATES, "states")
    column = {character: number[kind] for character, kind in accepted.items()}
    return Dfa(column, rows, [bool(state & 1) for state in states])


def _columns(positions: _Positions, flags: int, alphabet: Iterable[str]) -> dict[str, int]:
    """Return for each character the set of positions that it matches."""
    places: dict[str, int] = {}
    for place, atom in enumerate(positions.atoms[1:], start=1):
        places[atom] = places.get(atom, 0) | 1 << place
    pieces = [(re.compile(atom, flags).fullmatch, where) for atom, where in places.items()]
    alphabet = list(alphabet)
    positions.spend(len(pieces) * len(alphabet))
    return {
        character: sum(where for accepts, where in pieces if accepts(character))
        for character in alphabet
    }
