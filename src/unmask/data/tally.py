"""How many records or pairs fit in a row, and how many were left out."""

from __future__ import annotations

from dataclasses import dataclass

from unmask.errors import UserError


@dataclass(frozen=True)
class Tally:
    """How many records or pairs were left out, and why.

    Attributes:
        name: What they are called in messages.
        length: Most tokens of a sequence.
        total: Number of all.
        empty: Number of those without a token, or without source or target.
        too_long: Number of those longer than a sequence.
    """

    name: str
    length: int
    total: int
    empty: int
    too_long: int

    @property
    def counts(self) -> dict[str, int]:
        """The number of all and of those left out, by reason, for JSON."""
        return {"total": self.total, "empty": self.empty, "too_long": self.too_long}

    @property
    def left_out(self) -> list[str]:
        """A line about those that were left out; empty if there are none."""
        count = self.empty + self.too_long
        return [f"left out {count} of {self.total} {self.name}: {self._reasons}"] if count else []

    @property
    def _reasons(self) -> str:
        return f"{self.empty} empty, {self.too_long} longer than {self.length} tokens"

    def check(self) -> Tally:
        """Return self, or raise a UserError if none is left."""
        if self.total == self.empty + self.too_long:
            raise UserError(f"none of the {self.total} {self.name} can be used: {self._reasons}")
        return self
