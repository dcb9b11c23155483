"""An encoder that generates in any order and computes each generated token once.

A token sees the tokens generated before it; a mask sees the generated tokens and itself. So keys
and values of a generated token never change. They are computed once and cached, and a call runs the
network on the tokens generated since the last call and on the queried masks only. This is exact for
a network trained this way (recipe ``any-order``).

The same pass over a whole text and all its masks gives every conditional of an order at once: for
the likelihood, and for training.

Related work: Yang et al. 2019, "XLNet", arXiv:1906.08237; Pannatier et al. 2024, "sigma-GPTs",
arXiv:2404.09562; Sahoo et al. 2025, "Esoteric Language Models", arXiv:2506.01928.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from unmask.errors import UserError, explained
from unmask.models.encoder import EncoderDenoiser, gathered, rows_at_once
from unmask.models.forward import evaluating, only_at
from unmask.models.ordered_attention import Cache, Pass, attending, is_attached


class AnyOrderDenoiser(EncoderDenoiser):
    """A network whose attention follows the generation order.

    Called as a denoiser it orders visible tokens by a fixed permutation and keeps no cache. A
    ``session`` uses the order in which they were generated.

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
        """Return logits of p(x_0 | x_t) for masks, (N, V); see ``Denoiser``."""
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
        place, queried = packed(at)
        everywhere = torch.arange(length, device=x0.device).expand_as(x0)
        run = Pass(
            rank=known,
            queried=rank.gather(1, place),
            position=torch.cat([everywhere, place], 1),
            seen=everywhere[:, :0],
        )
        return self.run(run, x0, queried)

    def run(self, run: Pass, ids: Tensor, queried: Tensor) -> Tensor:
        """Return the logits of the masks of a pass.

        Args:
            run: The attention of this call.
            ids: Shape (B, n), int64; the generated tokens.
            queried: Shape (B, q), bool; False where a row queries fewer masks than another.

        Returns:
            Shape (N, V), row by row.
        """
        masks = torch.full_like(queried, self.mask_token_id, dtype=ids.dtype)
        at = torch.cat([torch.zeros_like(ids, dtype=torch.bool), queried], 1)
        with attending(run), only_at(self.bare, at):
            logits = self.model(
                input_ids=torch.cat([ids, masks], 1), position_ids=run.position + self.first
            ).logits
        logits.index_fill_(-1, self.not_data, float("-inf"))
        return logits[0]


@torch.no_grad()
def check_order(model: PreTrainedModel) -> None:
    """Check that a prepared model sees the tokens that it should see and no others.

    Token by token with a cache it must return the same logits as for the whole text at once.

    Raises:
        UserError: If it does not.
    """
    why = f"a {model.config.model_type} model cannot generate in any order: "
    # Some networks treat masks and padding in special ways.
    mask, pad = (getattr(model.config, f"{kind}_token_id", None) for kind in ("mask", "pad"))
    mask = 0 if mask is None else mask
    denoiser = AnyOrderDenoiser(model, (), mask)
    words = [i for i in range(denoiser.vocab_size) if i not in (mask, pad)]
    # Ids spread over the vocabulary, since its first entries may be untrained.
    picked = torch.tensor(words, device=model.device)[torch.arange(6) * len(words) // 6]
    text, other = picked[None, ::2], picked[None, 1::2].flip(1)
    rank = torch.arange(3, device=model.device)[None]
    everywhere = torch.ones_like(rank, dtype=torch.bool)
    # Architectures raise errors of any type for an input that they do not support.
    with (
        explained(f"{why}it does not take masks, positions or a cache", keep=()),
        evaluating(model),
    ):
        at_once = denoiser.conditionals(text, rank, everywhere)
        elsewhere = denoiser.conditionals(other, rank, everywhere)
        session, parts, t = denoiser.session(), [], torch.ones(1, device=model.device)
        for i in range(3):
            parts.append(session(text.where(rank < i, mask), t, at=rank == i))
    gap = (torch.cat(parts) - at_once).abs().max()
    # Relative to the effect of another context, which is small in an untrained model.
    rounding = 32 * torch.finfo(at_once.dtype).eps * at_once.abs().max()
    if not gap <= 1e-2 * (at_once - elsewhere).abs().max() + rounding:
        raise UserError(
            f"{why}its predictions depend on more than the tokens that it may see; take a BERT, "
            "RoBERTa, ModernBERT, ..."
        )


def make_denoiser(model: nn.Module, not_data: Iterable[int], mask_token_id: int) -> EncoderDenoiser:
    """Return the denoiser that a model is prepared for; arguments as in ``AnyOrderDenoiser``."""
    plain = EncoderDenoiser(model, not_data)
    if not is_attached(plain.bare):
        return plain
    return AnyOrderDenoiser(model, not_data, mask_token_id)


class Session:
    """A denoiser for one run of a sampler that knows the generation order of a canvas.

    A row in which a generated token has changed, was masked again or was dropped starts again from
    the fixed permutation.
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
        """Return logits of p(x_0 | generated tokens), (N, V) or (B, L, V); see ``Denoiser``."""
        visible = xt != self.network.mask_token_id
        if valid is not None:
            visible &= valid
        where = torch.ones_like(visible) if at is None else at
        if (where & visible).any():
            raise UserError(
                "an any-order model predicts masks only; use a sampler that keeps generated "
                "tokens, such as ancestral or maskgit"
            )
        rows = where.any(1).nonzero()[:, 0]
        if not len(rows):
            return torch.zeros(0, self.vocab_size, device=xt.device)
        self._follow(xt, visible, rows)
        fresh = self._generated(rows) - self._cached_tokens(rows)
        most = int((fresh + where[rows].sum(1)).max())
        # The cache needs the other half of the memory.
        few = rows.split(rows_at_once(most, xt.device, share=2 if self.cached else 1))
        if len(few) == 1:
            logits = self._run(xt, rows, *packed(where[rows]))
        else:
            answers = (self._run(xt, some, *packed(where[some])) for some in few)
            logits = gathered(answers, int(where.sum()))
        return logits.view(*xt.shape, -1) if at is None else logits

    def _follow(self, xt: Tensor, visible: Tensor, rows: Tensor) -> None:
        """Assign ranks to the tokens that the queried rows have generated since the last query."""
        if self._ids.shape != xt.shape:
            self._ids = torch.full_like(xt, self.network.mask_token_id)
            self._rank = torch.full_like(xt, xt.shape[1])
            self._done = torch.zeros(len(xt), dtype=torch.int64, device=xt.device)
            layers = self.network.bare.config.num_hidden_layers
            self._cache = Cache(len(xt), xt.shape[1], layers) if self.cached else None
        ids, rank = self._ids[rows], self._rank[rows]
        known = rank < xt.shape[1]
        changed = (known & ~(visible[rows] & (ids == xt[rows]))).any(1)
        rank[changed] = xt.shape[1]
        self._done[rows[changed]] = 0
        new = visible[rows] & (rank == xt.shape[1])
        count = (rank < xt.shape[1]).sum(1, keepdim=True)
        # Given tokens, and tokens generated in the same step, are ordered by the fixed permutation:
        # an order as random as those of training.
        order = shuffle(xt.shape[1], xt.device).expand_as(rank).masked_fill(~new, xt.shape[1])
        later = order.argsort(dim=1, stable=True).argsort(1)
        self._rank[rows] = torch.where(new, count + later, rank)
        self._ids[rows] = torch.where(visible[rows], xt[rows], self.network.mask_token_id)

    def _generated(self, rows: Tensor) -> Tensor:
        return (self._rank[rows] < self._rank.shape[1]).sum(1)

    def _cached_tokens(self, rows: Tensor) -> Tensor:
        """Return the number of tokens of each row that are in the cache."""
        return self._done[rows] if self.cached else torch.zeros_like(rows)

    def _run(self, xt: Tensor, rows: Tensor, place: Tensor, queried: Tensor) -> Tensor:
        rank, length = self._rank[rows], xt.shape[1]
        total = self._generated(rows)
        # Positions in the generation order, and the ones among them that are not in the cache.
        order = rank.argsort(dim=1, stable=True)
        done = self._cached_tokens(rows)
        most = int((total - done).max())
        step = torch.arange(most, device=xt.device)
        slot = done[:, None] + step
        fresh_slots = slot < total[:, None]
        fresh = order.gather(1, slot.clamp_max(length - 1))
        run = Pass(
            rank=slot.masked_fill(~fresh_slots, length),
            queried=total[:, None].expand_as(place),
            position=torch.cat([fresh, place], 1),
            seen=order[:, : int(total.max()) if self.cached else 0],
            cache=self._cache,
            rows=rows,
        )
        logits = self.network.run(run, xt[rows].gather(1, fresh), queried)
        self._done[rows] = total
        return logits


def packed(where: Tensor) -> tuple[Tensor, Tensor]:
    """Return the true positions of each row, in order, and which columns are used.

    Args:
        where: Shape (B, L), bool.

    Returns:
        Shapes (B, q), int64 and bool, with q the largest number in a row.
    """
    count = where.sum(1)
    most = int(count.max()) if len(where) else 0
    place = (~where).byte().argsort(dim=1, stable=True)[:, :most]
    return place, torch.arange(most, device=where.device) < count[:, None]


def shuffle(length: int, device: Any) -> Tensor:
    """Return a fixed permutation of positions, shape (length,), int64, the same for all texts.

    The ranks of the multiples of the golden ratio modulo 1: neighbours are far apart. A longer
    permutation keeps the relative order of a shorter one.
    """
    share = (torch.arange(1, length + 1, dtype=torch.float64) * 0.6180339887498949) % 1
    return share.argsort(stable=True).argsort().to(device)
