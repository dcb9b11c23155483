"""Options: declared once with type, range and help text, and read from what a caller gives.

An options class is a frozen dataclass whose fields are made by ``option``. An instance is valid: it
reads every value into Python's own type and refuses one that is out of range. The command line, the
Python API, recipes and the documentation are derived from the fields.

    @dataclass(frozen=True)
    class Cosine(Options):
        steps: int = option(64, "Denoising steps.", whole, low=1, high=100_000)
        temperature: float = option(1.0, "Divides the logits.", real, low=0)

The readers (``whole``, ``real``, ``word``, ...) take the name of an option and its value from
Python, NumPy or a file, and return the value in Python's own type, or raise a ``UserError`` that
names the option.
"""

from __future__ import annotations

import dataclasses
import math
import operator
import os
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

from unmask.errors import UserError, did_you_mean

Reader = Callable[[str, Any], Any]
"""(name, value) -> the value in Python's own type, or a UserError."""


@dataclass(frozen=True)
class Option:
    """What an option does and what its value may be.

    Attributes:
        help: One sentence for ``--help`` and the documentation.
        read: Reads a value.
        low: Smallest value; None for no limit.
        high: Largest value; None for no limit but infinity, which only ``math.inf`` lets in.
        above: Whether ``low`` itself is too small.
        below: Whether ``high`` itself is too large.
        choices: The only values; () for any.
        metavar: What the command line calls the value; None for its type.
        repeated: Whether the command line takes the option several times.
        optional: Whether None is a value: not given.
        unit: What the number counts or is, for an error, such as "in nats".
    """

    help: str
    read: Reader
    low: float | None = None
    high: float | None = None
    above: bool = False
    below: bool = False
    choices: tuple[str, ...] = ()
    metavar: str | None = None
    repeated: bool = False
    optional: bool = False
    unit: str = ""

    @property
    def range(self) -> str:
        """The values in words, such as "above 0 and at most 1"; empty if all are possible."""
        low, high = ("" if x in (None, math.inf) else _spelt(x) for x in (self.low, self.high))
        if low and high and not self.above:
            return f"from {low} to {'below ' if self.below else ''}{high}"
        least = f"{'above' if self.above else 'at least'} {low}" if low else ""
        most = f"{'below' if self.below else 'at most'} {high}" if high else ""
        return " and ".join(filter(None, (least, most)))

    def __call__(self, name: str, value: Any) -> Any:
        """Return a value in Python's own type.

        Raises:
            UserError: If it has another type, is out of range, infinite or not a number.
        """
        value = self.read(name, value)
        if self.choices:
            one_of(name, value, self.choices)
        if isinstance(value, int | float) and not self._holds(value):
            what = f"{name}, {self.unit}," if self.unit else name
            raise UserError(f"{what} must be {self._holding(value)}, not {value}")
        return value

    def _holding(self, value: float) -> str:
        """Return in words what a value had to be."""
        if value == math.inf and self.high is None:
            return f"{self.range} and finite" if self.range else "a finite number"
        return self.range or "a finite number"

    def _holds(self, value: float) -> bool:
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        inside = low <= value <= high and (math.isfinite(value) or self.high == math.inf)
        return inside and not (self.above and value == low) and not (self.below and value == high)


def _spelt(number: float) -> str:
    """Return a number without exponent, and a large power of two as one."""
    power = int(abs(number)).bit_length() - 1
    if power >= 32 and abs(number) == 2**power:
        return f"{'-' if number < 0 else ''}2^{power}"
    return f"{Decimal(str(number)):,f}"


def option(default: Any, help: str, read: Reader, **about: Any) -> Any:
    """Return a field of an options class; the keywords are those of ``Option``."""
    metadata = {"option": Option(help, read, optional=default is None, **about)}
    if callable(default):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def with_default(
    options: type[Options], name: str, default: Any = dataclasses.MISSING, **about: Any
) -> Any:
    """Return a field that another options class declares, with another default if one is given.

    The keywords are those of ``Option`` that differ.
    """
    own = {f.name: f for f in dataclasses.fields(options)}[name]
    if default is dataclasses.MISSING:
        default = own.default
    known = dataclasses.replace(own.metadata["option"], **about)
    return dataclasses.field(default=default, metadata={"option": known})


@dataclass(frozen=True)
class Options:
    """Base of options classes: an instance is valid.

    A value of None means that the option is not given; an ``optional`` one takes it.

    Attributes:
        section: What stands before the name of an option in an error, such as ``training.``.

    Raises:
        UserError: If a value has the wrong type or is out of range.
    """

    section: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            known, value = field.metadata.get("option"), getattr(self, field.name)
            default = _default(field)
            if known is None or (value is None and known.optional):
                continue
            if type(value) is type(default) and value == default:
                continue
            object.__setattr__(self, field.name, known(self.section + field.name, value))

    @classmethod
    def options(cls) -> dict[str, Option]:
        """Return the options of this class by name, in the order of their declaration."""
        found = ((field.name, field.metadata.get("option")) for field in dataclasses.fields(cls))
        return {name: known for name, known in found if known is not None}

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Return the defaults of the options by name."""
        known = cls.options()
        return {f.name: _default(f) for f in dataclasses.fields(cls) if f.name in known}

    @property
    def given(self) -> dict[str, Any]:
        """The options that differ from their defaults, by name."""
        values = ((name, getattr(self, name), plain) for name, plain in self.defaults().items())
        return {name: value for name, value, plain in values if value != plain}


def read_options(
    known: Mapping[str, Option], given: Mapping[str, Any], what: str
) -> dict[str, Any]:
    """Return the options that are given, in Python's own types; None means not given.

    Args:
        known: The options that exist.
        given: Values by name.
        what: What the options belong to, for an error, such as ``sampler``.

    Raises:
        UserError: If there is no such option, or a value is refused.
    """
    return {
        name: known[one_of(f"{what} option", name, known)](name, value)
        for name, value in given.items()
        if value is not None
    }


def one_of(what: str, value: Any, choices: Collection[str]) -> str:
    """Return a value that is one of several names.

    Raises:
        UserError: As "unknown ...", with the nearest name or all of them.
    """
    if not isinstance(value, str) or value not in choices:
        raise UserError(f"unknown {what} {value!r}{did_you_mean(value, choices)}")
    return value


def within(name: str, value: Any, low: int | None = None, high: int | None = None) -> int:
    """Return a whole number from a range that is known only when it is used.

    Raises:
        UserError: As that of an ``Option``.
    """
    number: int = Option("", whole, low, high)(name, value)
    return number


def require(*rules: tuple[str, object, str]) -> None:
    """Refuse the first of several combinations that does not hold.

    Args:
        rules: What is set, whether it may be (by truth value), and what it goes with.

    Raises:
        UserError: As "... goes with ...".
    """
    for what, holds, needed in rules:
        if not holds:
            raise UserError(f"{what} goes with {needed}")


def exclude(*rules: tuple[str, object, str]) -> None:
    """Refuse the first of several combinations that contradict each other.

    Args:
        rules: What is set, whether something else is too (by truth value), and what that is.

    Raises:
        UserError: As "... goes without ...; leave it out".
    """
    for what, clashes, other in rules:
        if clashes:
            raise UserError(f"{what} goes without {other}; leave it out")


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def whole(name: str, value: Any) -> int:
    """Return a whole number; 1.0 and True are none."""
    with suppress(TypeError):
        if not _is_flag(value):
            return operator.index(value)
    raise UserError(f"{name} must be a whole number, not {value!r}")


def real(name: str, value: Any) -> float:
    """Return a number; a text that spells one is none."""
    with suppress(TypeError, ValueError, OverflowError, RuntimeError):
        if not (_is_flag(value) or isinstance(value, str | bytes)):
            return float(value)
    raise UserError(f"{name} must be a number, not {value!r}")


def flag(name: str, value: Any) -> bool:
    """Return True or False."""
    if not _is_flag(value):
        raise UserError(f"{name} must be True or False, not {value!r}")
    return bool(value)


def word(name: str, value: Any) -> str:
    """Return a text."""
    if not isinstance(value, str):
        raise UserError(f"{name} must be a text, not {value!r}")
    return value


def words(name: str, value: Any) -> list[str]:
    """Return one text or several as a list."""
    if isinstance(value, str):
        return [value]
    try:
        texts = list(value)
    except TypeError as error:
        raise UserError(f"{name} must be a text or a list of texts, not {value!r}") from error
    return [word(name, text) for text in texts]


def place(name: str, value: Any) -> str:
    """Return the name of a file, a folder or something on the hub."""
    path = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(path, str) or not path:
        raise UserError(f"{name} must be the name of a folder or on the hub, not {value!r}")
    return path


def _is_flag(value: Any) -> bool:
    """Return whether a value is True or False, of Python, NumPy or torch."""
    return isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool")
