"""Report on a learned schedule: which tokens are generated first, and which last."""

from __future__ import annotations

from torch import Tensor

from unmask.data.codec import Codec
from unmask.diffusion.schedules.per_token import LearnedExponents

PLOT, REPORT = "exponents.png", "exponents.md"
LISTED = 40
RAREST = 10
"""Occurrences from which a token is listed; the exponents of rarer ones are hardly trained."""


def generation_order(learned: LearnedExponents, counts: Tensor, codec: Codec, title: str) -> str:
    """Return both ends of the order in which a learned schedule generates tokens, as Markdown.

    A token with a large exponent stays visible long in the forward process,
    1 - alpha_v(t) = t^(w_v), so that it is generated early in the reverse process.

    Args:
        learned: The schedule.
        counts: Occurrences of each token in the training text, shape (V,).
        codec: Returns the text of each token.
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
        f"## Generated first\n\n{table(ranked[:LISTED])}\n"
        f"## Generated last\n\n{table(ranked[::-1][:LISTED])}"
    )
