"""The colours of a token's state, shared by terminal and GIF.

given     bold blue         part of the prompt
masked    a faint block
waiting   a fainter block   masked, in a later block of the sequence
remasked  a rose block      masked again in this step
revealed  mint on green     revealed in this step
kept      ink ... amber     revealed earlier; amber for low confidence

An undecided pixel of a picture is a square of a chequered ground.
"""

from __future__ import annotations

from unmask.pipelines.trace import Status

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
BLOCKS: dict[Status, Colour] = {
    "masked": FAINT,
    "waiting": FAINTER,
    "remasked": AGAIN,
    "revealed": NEW_GROUND,
}
_SHADES = 6


def mix(start: Colour, end: Colour, share: float) -> Colour:
    """Return the colour between start (share 0) and end (share 1)."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(start, end, strict=True))
    return red, green, blue


UNDECIDED = (FAINT, mix(FAINT, FAINTER, 0.4))
"""The two colours of the chequered ground that stands for undecided pixels."""


def text_colour(status: Status, confidence: float | None) -> Colour:
    """Return the colour of a visible token.

    A kept one is amber for confidence 0 and ink for 1 or None, in six shades.
    """
    if status in ("given", "revealed"):
        return GIVEN if status == "given" else NEW
    share = 1.0 if confidence is None else min(max(confidence, 0.0), 1.0)
    return mix(DOUBT, INK, round(share * (_SHADES - 1)) / (_SHADES - 1))


ON_PANEL = (
    *(text_colour("kept", i / (_SHADES - 1)) for i in range(_SHADES)),
    *(GIVEN, QUIET, *BLOCKS.values()),
)


def hexadecimal(colour: Colour) -> str:
    """Return the colour as "#rrggbb"."""
    return "#" + bytes(colour).hex()
