r"""The lengths of blanks, chosen before anything is generated.

    p(n | given) ~ p(n) p(given; n)

with n the lengths of all blanks of a text and p(n) uniform over the stated ranges. The likelihood
is that of the given tokens alone, at the positions that n puts them at, with every token of the
blanks masked. Its estimate is the bound with exactly k of the m given tokens masked as well,

    -log p(given; n) <= mean over k of  m/k * sum over the k masked of -log p(x_i | the others; n)

on the same k and the same masks for every n, so that their noise cancels in the comparison. The
cross-entropy of the tokens in the blanks is left out: it grows with n, and dividing it by the
number of tokens would compare texts of different tokens.

References: Bayes' rule; Ou et al. 2024, arXiv:2406.03736, and Hoogeboom et al. 2021,
arXiv:2110.02037 (the bound by k); here the exact likelihood of a random order takes its place
where the network has one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unmask.diffusion.denoiser import Denoiser, OrderedDenoiser, masked_cross_entropy
from unmask.diffusion.formulation import AnyOrderFormulation, Formulation
from unmask.diffusion.objectives.any_order import order_token_nats
from unmask.diffusion.processes.absorbing import AbsorbingProcess
from unmask.diffusion.rng import RowRng
from unmask.diffusion.schedules.continuous import make_schedule
from unmask.pipelines.prompts import Rows
from unmask.sampling.canvas import Canvas

DRAWS = 16
MAX_LOGITS = 2**26
"""Logits in one call: 256 MiB in float32."""


def choose_rows(texts: Rows, nats: Tensor, rule: str) -> list[int]:
    """Return the row that each text becomes.

    Args:
        texts: The texts and the rows that each may become.
        nats: -log p(given; n) of every row, shape (R,), float64.
        rule: ``sample`` draws from p(n | given); ``likeliest`` takes its maximum, and a random one
            of several that differ by rounding only. Text i depends on its own seed alone.
    """
    u = RowRng(texts.seeds).uniform("length", 0, 1)[:, 0].tolist()
    kept = []
    for rows, number in zip(texts.choices, u, strict=True):
        probs = torch.softmax(-nats[rows], 0)
        if rule == "likeliest":
            probs = (probs > (1 - 1e-4) * probs.max()).double()
        law = probs.cumsum(0)
        kept.append(rows[int((law < number * law[-1]).sum())])
    return kept


@torch.no_grad()
def given_nats(
    texts: Rows, start: int, denoiser: Denoiser, formulation: Formulation, draws: int = DRAWS
) -> tuple[Tensor, int]:
    """Estimate -log p(given; n) of every row that competes with another.

    Args:
        texts: The texts and the rows that each may become. All samples of a prompt share the masks,
            which depend on the seed of the first.
        start: Start symbols at the head of each row.
        denoiser: The network. It is not called for texts of one length or without given tokens.
        formulation: What it was trained by.
        draws: Mask patterns, one network call each.

    Returns:
        Nats, shape (R,), float64, 0 where nothing had to be estimated; and the network calls.
    """
    device = texts.seeds.device
    nats = torch.zeros(len(texts.canvas.ids), dtype=torch.float64, device=device)
    of_row: dict[int, int] = {}
    for text, rows in enumerate(texts.choices):
        for row in rows if len(rows) > 1 else ():
            of_row.setdefault(row, text)
    given = texts.canvas.given(start)
    # A symbol that the network never predicts has probability 0: it is context, never masked.
    given &= torch.isin(texts.canvas.ids, denoiser.data_ids)
    open_rows = [row for row in of_row if given[row].any()]
    if not open_rows:
        return nats, 0
    index = torch.tensor(open_rows, device=device)
    seeds = texts.seeds[[of_row[row] for row in open_rows]]
    if texts.length_seed is not None:
        seeds = torch.full_like(seeds, texts.length_seed)
    tokens = int(given[index].sum(1).max())
    size = max(MAX_LOGITS // (tokens * denoiser.vocab_size), 1)
    for piece, own in zip(index.split(size), seeds.split(size), strict=True):
        part = texts.canvas.rows(piece.tolist())
        where = given[piece, : part.ids.shape[1]]
        nats[piece] = _bound(part, where, RowRng(own), denoiser, formulation, draws)
    return nats, draws


def _bound(
    canvas: Canvas,
    given: Tensor,
    rng: RowRng,
    denoiser: Denoiser,
    formulation: Formulation,
    draws: int,
) -> Tensor:
    """Return the estimate for rows with at least one given token (B, L), shape (B,), float64."""
    count = given.sum(1)
    # The number of a given token does not depend on the lengths of the blanks before it.
    number = (given.cumsum(1) - 1).clamp_min(0)
    absorbing = AbsorbingProcess(make_schedule("linear"), formulation.process.mask_token_id)
    offset = rng.uniform("share", 0, 1)[:, 0]
    total = torch.zeros(len(given), dtype=torch.float64, device=given.device)
    for draw in range(draws):
        order = rng.uniform("judge", draw, int(count.max())).gather(1, number)
        if isinstance(formulation, AnyOrderFormulation):
            assert isinstance(denoiser, OrderedDenoiser)
            rank = _rank(canvas, given, order)
            nats = order_token_nats(denoiser, canvas.ids, rank, given, canvas.valid)
            total += nats.double().sum(1)
            continue
        # The shares of the draws are stratified, with an offset that makes every k as likely.
        k = ((draw + offset) / draws * count).long().clamp_max(count - 1) + 1
        hidden = absorbing.mask_first(canvas.ids, order, k, given)
        time = formulation.process.time_of(hidden.masked | canvas.masked, given | canvas.masked)
        nats = masked_cross_entropy(
            denoiser, hidden.ids, time, canvas.ids, hidden.masked, canvas.valid
        )
        total += nats.double() * count / k
    return total / draws


def _rank(canvas: Canvas, given: Tensor, order: Tensor) -> Tensor:
    """Return ranks in an order of generation, (B, L), int64: masks and padding come last."""
    known = canvas.valid & ~canvas.masked
    place = torch.where(given, order + 1, torch.where(known, 0.0, 3.0))
    return place.argsort(dim=1, stable=True).argsort(1)
