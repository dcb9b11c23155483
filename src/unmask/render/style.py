"""The colour language that terminal and GIF share: what a colour says about a token.

given     bold blue         the prompt
masked    a faint block
waiting   a fainter block   its turn has not come
remasked  a rose block      hidden again in this step
revealed  mint on green     written in this step
kept      ink ... amber     written earlier; the more amber, the less sure
"""

from __future__ import annotations

Colour = tuple[int, int, int]

GROUND: Colour = (16, 18, 24)
PANEL: Colour = (24, 27, 36)
FAINT: Colour = (52, 58, 76)
FAINTER: Colour = (34, 38, 50)
QUIET: Colour = (124, 132, 156)
INK: Colour = (226, 229, 238)
GIVEN: Colour = (138, 173, 244)
NEW: Colour = (196, 245, 220)
NEW_GROUND: Colour = (30, 92, 74)
DONE: Colour = (94, 176, 144)
AGAIN: Colour = (158, 74, 100)
DOUBT: Colour = (206, 144, 62)

SHADES = 6
"""How many colours a confidence is shown in."""


def mix(start: Colour, end: Colour, share: float) -> Colour:
    """Return the colour on the way from start (share 0) to end (share 1)."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(start, end, strict=True))
    return red, green, blue


def confidence_colour(confidence: float | None) -> Colour:
    """Return amber for confidence 0, ink for 1 or where it is not known, in ``SHADES`` steps."""
    if confidence is None:
        return INK
    share = min(max(confidence, 0.0), 1.0)
    return mix(DOUBT, INK, round(share * (SHADES - 1)) / (SHADES - 1))


def hexadecimal(colour: Colour) -> str:
    """Return the colour as "#rrggbb"."""
    return "#" + bytes(colour).hex()
