"""What a learned schedule came to: which tokens are written first, and which last."""

from __future__ import annotations

from torch import Tensor

from unmask.data.codec import Codec
from unmask.diffusion.schedules.per_token import LearnedExponents

PLOT, REPORT = "exponents.png", "exponents.md"
LISTED = 40
RAREST = 10
"""Tokens that occur less often say little about what was learned, and are not listed."""


def order_of_writing(learned: LearnedExponents, counts: Tensor, codec: Codec, title: str) -> str:
    """Return both ends of the order in which a learned schedule writes, as Markdown.

    A token with a large exponent stays visible long on the way forward, 1 - alpha_v(t) = t^(w_v),
    so that it is written early on the way back.

    Args:
        learned: The schedule.
        counts: Occurrences of each token in the training text, shape (V,).
        codec: Says what each token looks like.
        title: What was trained.
    """
    powers, often = learned.exponents.detach().double().cpu(), counts.cpu()
    common = (often >= RAREST).nonzero()[:, 0]
    ranked = common[powers[common].argsort(descending=True)].tolist()

    def table(ids: list[int]) -> str:
        rows = [(i, codec.piece(i)) for i in ids]
        lines = "".join(f"| `{p!r}` | {powers[i]:.3f} | {int(often[i])} |\n" for i, p in rows)
        return f"| token | exponent | occurrences |\n|---|---|---|\n{lines}"

    spread = f"{powers[common].min():.3f} to {powers[common].max():.3f}" if ranked else "none"
    return (
        f"# The learned schedule of {title}\n\nExponents of tokens that occur at least {RAREST} "
        f"times: {spread}.\n\n![exponents against frequency]({PLOT})\n\n"
        f"## Written first\n\n{table(ranked[:LISTED])}\n"
        f"## Written last\n\n{table(ranked[::-1][:LISTED])}"
    )
