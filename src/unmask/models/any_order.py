"""An encoder that writes in any order and computes each written token once.

What is written sees what was written before it, a mask sees what is written and itself. So keys and
values of a written token never change: they are computed when it is written and kept, and a call of
the network runs on the tokens written since the last call and on the masks that are asked about,
nothing else. That is exact for a network trained this way (recipe ``any-order``).

The same pass, over a whole text and all its masks, gives every conditional of an order at once: the
likelihood, and what is trained.

Kin: Yang et al. 2019, "XLNet", arXiv:1906.08237; Pannatier et al. 2024, "sigma-GPTs",
arXiv:2404.09562; Sahoo et al. 2025, "Esoteric Language Models", arXiv:2506.01928.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from unmask.errors import UserError
from unmask.models.encoder import EncoderDenoiser, one_by_one, rows_at_once
from unmask.models.ordered_attention import Cache, Pass, is_attached, running
from unmask.models.traits import evaluating, only_at


class AnyOrderDenoiser(EncoderDenoiser):
    """A network in which attention follows the order of writing.

    Called as a denoiser it takes visible tokens in a fixed shuffled order and remembers nothing; a
    ``session`` takes them in the order in which they were written.

    Args:
        model: A masked language model prepared by ``ordered_attention.attach``.
        not_data: Ids that never occur in data and must not be predicted.
        mask_token_id: The id of [MASK].
    """

    def __init__(self, model: nn.Module, not_data: Iterable[int], mask_token_id: int) -> None:
        super().__init__(model, not_data)
        self.mask_token_id = mask_token_id

    def __call__(
        self, xt: Tensor, t: Tensor, *, at: Tensor | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """Return logits of p(x_0 | x_t), (N, V); only for masks, see ``Denoiser``."""
        return self.session(cached=False)(xt, t, at=at, valid=valid)

    def session(self, cached: bool = True) -> Session:
        """Return a denoiser for one run of a sampler; see ``OrderedDenoiser``."""
        return Session(self, cached)

    def conditionals(
        self, x0: Tensor, rank: Tensor, at: Tensor, valid: Tensor | None = None
    ) -> Tensor:
        """Return the logits of every conditional of an order; see ``OrderedDenoiser``."""
        length = x0.shape[1]
        known = rank if valid is None else rank.masked_fill(~valid, length)
        place, asked = packed(at)
        everywhere = torch.arange(length, device=x0.device).expand_as(x0)
        run = Pass(
            rank=known,
            asked=rank.gather(1, place),
            position=torch.cat([everywhere, place], 1),
            seen=everywhere[:, :0],
        )
        return self.run(run, x0, asked)

    def run(self, run: Pass, ids: Tensor, asked: Tensor) -> Tensor:
        """Return the logits of the masks of a pass.

        Args:
            run: Who sees whom.
            ids: Shape (B, n), int64, of the written tokens.
            asked: Shape (B, q), bool; False where a row asks about fewer masks than another.

        Returns:
            Shape (N, V), row by row.
        """
        masks = torch.full_like(asked, self.mask_token_id, dtype=ids.dtype)
        at = torch.cat([torch.zeros_like(ids, dtype=torch.bool), asked], 1)
        with running(run), only_at(self.bare, at):
            logits = self.model(
                input_ids=torch.cat([ids, masks], 1), position_ids=run.position + self.first
            ).logits
        logits.index_fill_(-1, self.not_data, float("-inf"))
        return logits[0]


@torch.no_grad()
def check_order(model: PreTrainedModel) -> None:
    """Find out whether a model that was attached sees what it is to see and nothing else.

    Token by token with a cache it must answer what it answers to the whole text at once.

    Raises:
        UserError: If it does not.
    """
    why = f"a {model.config.model_type} model cannot write in any order: "
    # Some networks do different things with masks and with padding.
    mask, pad = (getattr(model.config, f"{kind}_token_id", None) for kind in ("mask", "pad"))
    mask = 0 if mask is None else mask
    denoiser = AnyOrderDenoiser(model, (), mask)
    words = [i for i in range(denoiser.vocab_size) if i not in (mask, pad)]
    # From all over the vocabulary: its first entries may never have been trained.
    picked = torch.tensor(words, device=model.device)[torch.arange(6) * len(words) // 6]
    text, other = picked[None, ::2], picked[None, 1::2].flip(1)
    rank = torch.arange(3, device=model.device)[None]
    everywhere = torch.ones_like(rank, dtype=torch.bool)
    try:
        with evaluating(model):
            at_once = denoiser.conditionals(text, rank, everywhere)
            elsewhere = denoiser.conditionals(other, rank, everywhere)
            session, parts, t = denoiser.session(), [], torch.ones(1, device=model.device)
            for i in range(3):
                parts.append(session(text.where(rank < i, mask), t, at=rank == i))
    except Exception as error:
        # What a model does with an input that it does not know is up to each architecture.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{why}it does not take masks, positions or a cache ({reason})") from error
    gap = (torch.cat(parts) - at_once).abs().max()
    # What a change of the context does is the measure, in a fresh model little, and rounding.
    rounding = 32 * torch.finfo(at_once.dtype).eps * at_once.abs().max()
    if not gap <= 1e-2 * (at_once - elsewhere).abs().max() + rounding:
        raise UserError(
            f"{why}its guesses depend on more than the tokens that it may see; take a BERT, "
            "RoBERTa, ModernBERT, ..."
        )


def make_denoiser(model: nn.Module, not_data: Iterable[int], mask_token_id: int) -> EncoderDenoiser:
    """Return the denoiser that a model was prepared for; arguments as in ``AnyOrderDenoiser``."""
    plain = EncoderDenoiser(model, not_data)
    if not is_attached(plain.bare):
        return plain
    return AnyOrderDenoiser(model, not_data, mask_token_id)


class Session:
    """One run of a sampler: a denoiser that knows in which order a canvas was written.

    A row in which a written token has changed, was hidden again or was dropped starts anew, in the
    fixed order.
    """

    def __init__(self, network: AnyOrderDenoiser, cached: bool) -> None:
        self.network = network
        self.vocab_size, self.data_ids = network.vocab_size, network.data_ids
        self.cached = cached
        self._cache: Cache | None = None
        self._done = torch.empty(0, dtype=torch.int64)
        self._ids = self._rank = torch.empty(0, dtype=torch.int64)

    def __call__(
        self, xt: Tensor, t: Tensor, *, at: Tensor | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """Return logits of p(x_0 | what is written), (N, V) or (B, L, V); see ``Denoiser``."""
        visible = xt != self.network.mask_token_id
        if valid is not None:
            visible &= valid
        where = torch.ones_like(visible) if at is None else at
        if (where & visible).any():
            raise UserError(
                "a network that writes in any order guesses masks only; use a sampler that keeps "
                "what it has written, such as ancestral or maskgit"
            )
        rows = where.any(1).nonzero()[:, 0]
        if not len(rows):
            return torch.zeros(0, self.vocab_size, device=xt.device)
        self._follow(xt, visible, rows)
        fresh = self._written(rows) - self._already(rows)
        most = int((fresh + where[rows].sum(1)).max())
        # A cache takes the memory of the other half.
        few = rows.split(rows_at_once(most, xt.device, share=2 if self.cached else 1))
        if len(few) == 1:
            logits = self._ask(xt, rows, *packed(where[rows]))
        else:
            answers = (self._ask(xt, some, *packed(where[some])) for some in few)
            logits = one_by_one(answers, int(where.sum()))
        return logits.view(*xt.shape, -1) if at is None else logits

    def _follow(self, xt: Tensor, visible: Tensor, rows: Tensor) -> None:
        """Give a rank to what the rows asked about have written since they last were."""
        if self._ids.shape != xt.shape:
            self._ids = torch.full_like(xt, self.network.mask_token_id)
            self._rank = torch.full_like(xt, xt.shape[1])
            self._done = torch.zeros(len(xt), dtype=torch.int64, device=xt.device)
            layers = self.network.bare.config.num_hidden_layers
            self._cache = Cache(len(xt), xt.shape[1], layers) if self.cached else None
        ids, rank = self._ids[rows], self._rank[rows]
        known = rank < xt.shape[1]
        anew = (known & ~(visible[rows] & (ids == xt[rows]))).any(1)
        rank[anew] = xt.shape[1]
        self._done[rows[anew]] = 0
        new = visible[rows] & (rank == xt.shape[1])
        count = (rank < xt.shape[1]).sum(1, keepdim=True)
        # Of tokens written at the same time, and of those given, the fixed shuffle says which is
        # first: an order as random as those of training.
        order = shuffle(xt.shape[1], xt.device).expand_as(rank).masked_fill(~new, xt.shape[1])
        later = order.argsort(dim=1, stable=True).argsort(1)
        self._rank[rows] = torch.where(new, count + later, rank)
        self._ids[rows] = torch.where(visible[rows], xt[rows], self.network.mask_token_id)

    def _written(self, rows: Tensor) -> Tensor:
        return (self._rank[rows] < self._rank.shape[1]).sum(1)

    def _already(self, rows: Tensor) -> Tensor:
        """Return how many of its tokens the cache holds for each row."""
        return self._done[rows] if self.cached else torch.zeros_like(rows)

    def _ask(self, xt: Tensor, rows: Tensor, place: Tensor, asked: Tensor) -> Tensor:
        rank, length = self._rank[rows], xt.shape[1]
        total = self._written(rows)
        # Positions in the order of writing, and of these the ones that have not been run yet.
        order = rank.argsort(dim=1, stable=True)
        done = self._already(rows)
        most = int((total - done).max())
        step = torch.arange(most, device=xt.device)
        slot = done[:, None] + step
        running_now = slot < total[:, None]
        fresh = order.gather(1, slot.clamp_max(length - 1))
        run = Pass(
            rank=slot.masked_fill(~running_now, length),
            asked=total[:, None].expand_as(place),
            position=torch.cat([fresh, place], 1),
            seen=order[:, : int(total.max()) if self.cached else 0],
            cache=self._cache,
            rows=rows,
        )
        logits = self.network.run(run, xt[rows].gather(1, fresh), asked)
        self._done[rows] = total
        return logits


def packed(where: Tensor) -> tuple[Tensor, Tensor]:
    """Return the true positions of each row, in order, and which of the columns are any.

    Args:
        where: Shape (B, L), bool.

    Returns:
        Shapes (B, q), int64 and bool, q the most that a row has.
    """
    count = where.sum(1)
    most = int(count.max()) if len(where) else 0
    place = (~where).byte().argsort(dim=1, stable=True)[:, :most]
    return place, torch.arange(most, device=where.device) < count[:, None]


def shuffle(length: int, device: Any) -> Tensor:
    """Return a fixed permutation of positions, shape (length,), int64, the same for all texts.

    Multiples of the golden ratio modulo 1, sorted: neighbours come far apart. The permutation of a
    longer text keeps the order that the shorter one has.
    """
    share = (torch.arange(1, length + 1, dtype=torch.float64) * 0.6180339887498949) % 1
    return share.argsort(stable=True).argsort().to(device)
