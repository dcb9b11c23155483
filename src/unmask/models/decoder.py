r"""Any Hugging Face ``*ForCausalLM`` as a block denoiser, without touching its code.

A decoder takes a four-dimensional attention mask, position ids and the library's own cache, so its
causal order can be replaced by one of blocks. There are two masks:

    all blocks at once, [x_t ; x_0]     noised block b sees itself and the clean blocks before b
    one block after the other           a block sees itself and everything before it

Nothing is shifted: a masked position predicts its own token, not the next one.

Reference: Arriola et al. 2025, arXiv:2503.09573, Algorithms 1 and 2.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from unmask.errors import UserError, explained
from unmask.models.compat import attention_of, cache_argument, missing_arguments
from unmask.models.encoder import split_ids, unwrap
from unmask.models.forward import evaluating, only_at

_REFUSALS = (RuntimeError, ValueError, IndexError, AttributeError)
"""Errors of architectures that do not support a mask, positions or a cache: wrong shapes, checks of
their own, another kind of cache. A TypeError or a warning turned into an error is not included: it
means that this package calls them wrongly."""

MASK_TOKENS = ("<mask>", "[MASK]", "<|mask|>")
"""Names for a mask token that has to be added; the first that is not in the vocabulary is used."""


class DecoderDenoiser:
    """A decoder whose attention is causal between blocks and bidirectional within a block.

    Args:
        model: A causal language model, bare or wrapped.
        not_data: Ids that never occur in data and must not be predicted.
        mask_token_id: The id of [MASK]; positions after the end of a text are masks.
        block_length: L'.
        start: Number of start symbols of every sequence.
        window: Most positions that the network sees during generation, None for no limit. When a
            text is longer, the older half of the blocks is dropped and the others are renumbered,
            after the start symbols.

    Raises:
        UserError: If the attention implementation takes no custom mask.
    """

    def __init__(
        self,
        model: nn.Module,
        not_data: Iterable[int],
        mask_token_id: int,
        block_length: int,
        start: int = 0,
        window: int | None = None,
    ) -> None:
        self.model = model
        self.bare: PreTrainedModel = unwrap(model)
        self.vocab_size = int(self.bare.get_output_embeddings().out_features)
        self.data_ids, self._not_data = split_ids(self.vocab_size, not_data, self.bare.device)
        self.mask_token_id, self.block_length, self.start = mask_token_id, block_length, start
        self._cache_argument = cache_argument(self.bare)
        # A single block has no newer half to keep.
        blocks = 0 if window is None else window // block_length
        self.window_blocks = blocks if blocks > 1 else None
        kind = attention_of(self.bare)
        if kind not in ("sdpa", "eager"):
            raise UserError(f"blocks need the attention 'sdpa' or 'eager', not {kind!r}")

    def __call__(
        self, xt: Tensor, x0: Tensor, *, at: Tensor | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """Return logits of all blocks, (N, V) or (B, L, V); see ``BlockDenoiser``.

        One pass over [x_t ; x_0] without the last clean block, which is not seen: 2 L - L' tokens.
        """
        where = torch.ones_like(xt, dtype=torch.bool) if at is None else at
        noised = self.whole(xt, valid)
        length = noised.shape[1]
        read = length - self.block_length
        ids = torch.cat([noised, x0[:, :read]], 1)
        allowed = halves_mask(length, self.block_length, ids.device)
        allowed = allowed[: length + read, : length + read]
        place = torch.arange(length, device=ids.device)
        logits = self.logits(ids, allowed, torch.cat([place, place[:read]]), where)
        return logits if at is not None else logits.view(*xt.shape, -1)

    def context(self, cached: bool = True) -> CachedContext:
        """Return an empty context; see ``BlockDenoiser``."""
        return CachedContext(self, cached)

    def whole(self, ids: Tensor, valid: Tensor | None) -> Tensor:
        """Return complete blocks, (B, L) -> (B, n L'), with masks after the end of a text."""
        ids = ids if valid is None else ids.masked_fill(~valid, self.mask_token_id)
        return pad(ids, (0, -ids.shape[1] % self.block_length), value=self.mask_token_id)

    def logits(
        self,
        ids: Tensor,
        allowed: Tensor,
        place: Tensor,
        at: Tensor,
        cache: DynamicCache | None = None,
    ) -> Tensor:
        """Run the network, and its head on the queried positions only.

        Args:
            ids: Shape (B, Q), int64.
            allowed: Shape (Q, K), bool; True where a query may see a key.
            place: Positions of the ids, shape (Q,), int64.
            at: Shape (B, <= Q), bool; the queried positions; missing columns are not queried.
            cache: Keys and values of K - Q earlier tokens; the new ones are added.

        Returns:
            Shape (N, V), -inf for ids that do not occur in data.
        """
        at = pad(at, (0, ids.shape[1] - at.shape[1]), value=False)
        with only_at(self.bare, at):
            logits = self.model(
                input_ids=ids,
                attention_mask=self._formatted(allowed)[None, None],
                position_ids=place[None],
                use_cache=cache is not None,
                **{self._cache_argument: cache},
            ).logits[0]
        return logits.index_fill_(-1, self._not_data, float("-inf"))

    def _formatted(self, allowed: Tensor) -> Tensor:
        """Return the mask as the model's attention takes it: eager code adds it to the scores."""
        if attention_of(self.bare) == "sdpa":
            return allowed
        dtype = self.bare.dtype
        return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill(
            ~allowed, torch.finfo(dtype).min
        )


class CachedContext:
    """A denoiser of the next block, with the keys and values of the clean blocks before it.

    A finished block is read together with the first noised copy of the next one, which saves a
    call. Keys and values of noised tokens are dropped after every call.

    Args:
        network: The denoiser of the context.
        cached: Keep keys and values between calls; else every call reads all blocks.
    """

    def __init__(self, network: DecoderDenoiser, cached: bool = True) -> None:
        self._network, self._cached = network, cached
        self.vocab_size, self.data_ids = network.vocab_size, network.data_ids
        self._blocks: list[Tensor] = []
        self._dropped = 0
        self._cache, self._read = DynamicCache(), 0
        self._rows: Tensor | None = None

    def append(self, block: Tensor) -> None:
        """Add a finished block (B, L') to the context; it is read in the next call."""
        self._blocks.append(block if self._rows is None else block[self._rows])

    def keep(self, rows: Tensor) -> None:
        """Drop the rows that will not be queried again; see ``BlockContext``."""
        mine = rows if self._rows is None else rows[self._rows]
        if mine.all():
            return
        index = mine.nonzero()[:, 0]
        self._rows = index if self._rows is None else self._rows[index]
        self._blocks = [block[index] for block in self._blocks]
        if self._read:
            self._cache.batch_select_indices(index)
        else:
            # An empty cache also depends on the size of its batch.
            self._cache = DynamicCache()

    @torch.no_grad()
    def __call__(
        self, xt: Tensor, t: Tensor, *, at: Tensor | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """Return logits of the next block, (N, V) at ``at`` or (B, L', V); see ``Denoiser``."""
        where = torch.ones_like(xt, dtype=torch.bool) if at is None else at
        if self._rows is not None:
            # Dropped rows are not queried, so the order of the predictions stays.
            xt, where = xt[self._rows], where[self._rows]
            valid = None if valid is None else valid[self._rows]
        network = self._network
        if not self._cached:
            self._cache, self._read = DynamicCache(), 0
        unread = self._unread(xt)
        ids = torch.cat([unread, network.whole(xt, valid)], 1)
        stop = self._read + ids.shape[1]
        allowed = blocks_mask(self._read, stop, network.block_length, ids.device)
        place = torch.arange(self._read, stop, device=ids.device)
        queried = pad(where, (unread.shape[1], 0), value=False)
        logits = network.logits(ids, allowed, place, queried, self._cache)
        self._cache.crop(-network.block_length)
        self._read += unread.shape[1]
        return logits if at is not None else logits.view(*xt.shape, -1)

    def _unread(self, xt: Tensor) -> Tensor:
        """Return the ids in the window that are not in the cache, shape (B, n L')."""
        network = self._network
        dropped = first_block(len(self._blocks), network.window_blocks)
        if dropped != self._dropped:
            self._dropped = dropped
            self._cache, self._read = DynamicCache(), 0
        seen = self._blocks[dropped + self._read // network.block_length :]
        unread = torch.cat([xt[:, :0], *seen], 1)
        if dropped and not self._read:
            unread[:, : network.start] = self._blocks[0][:, : network.start]
        return unread


def first_block(before: int, window: int | None) -> int:
    """Return the oldest block in the window, given the number of blocks before the present one.

    It depends on the position alone, so a row does not depend on its batch. Whenever there would be
    more than ``window`` blocks, only the newer half of them stays.
    """
    if window is None or before < window:
        return 0
    dropped = window - window // 2
    return dropped * (1 + (before - window) // dropped)


def halves_mask(length: int, block_length: int, device: torch.device | str = "cpu") -> Tensor:
    """Return the attention mask of [x_t ; x_0], shape (2 L, 2 L), bool, one query per row.

    In both halves a block sees itself. The noised and the clean block b also see the clean blocks
    before b.
    """
    index = torch.arange(2 * length, device=device)
    clean, block = index >= length, index % length // block_length
    same_half = clean[:, None] == clean
    itself = same_half & (block[:, None] == block)
    return itself | (clean & (block < block[:, None]))


def blocks_mask(
    first: int, stop: int, block_length: int, device: torch.device | str = "cpu"
) -> Tensor:
    """Return the mask of queries first ... stop - 1 on keys 0 ... stop - 1, (queries, keys)."""
    block = torch.arange(stop, device=device) // block_length
    return block <= block[first:, None]


def add_mask_token(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Add a mask token to a model and its tokenizer unless they have one; return whether it is new.

    Both are saved with it. Its embedding starts near the mean of all others.
    """
    if tokenizer.mask_token_id is not None:
        return False
    known = tokenizer.get_vocab()
    name = next(name for name in MASK_TOKENS if name not in known)
    tokenizer.add_special_tokens({"mask_token": name})
    # Some models have more embeddings than tokens, so one is free.
    embeddings: Any = model.get_input_embeddings()
    if len(tokenizer) > embeddings.num_embeddings:
        model.resize_token_embeddings(len(tokenizer))
    return True


@torch.no_grad()
def check_decoder(model: PreTrainedModel) -> None:
    """Check that a model follows attention mask, positions and cache.

    Block by block with a cache it must return the same logits as for all blocks at once.

    Raises:
        UserError: If it does not.
        TypeError: If transformers has renamed an argument, which is a bug of this package.
    """
    why = f"a {model.config.model_type} model cannot be trained in blocks: "
    missing = missing_arguments(model, "attention_mask", "position_ids")
    if missing:
        version = f"transformers {transformers.__version__}"
        raise UserError(f"{why}in {version} it takes no {' and no '.join(missing)}")
    denoiser = DecoderDenoiser(model, (), mask_token_id=0, block_length=2)
    # Two rows, since some architectures take a mask for one row only.
    noised = torch.tensor([[0, 1, 2, 0, 0, 3], [5, 0, 0, 2, 6, 0]], device=model.device)
    clean = torch.tensor([[4, 1, 2, 5, 6, 3], [5, 1, 3, 2, 6, 4]], device=model.device)
    what, keep = f"{why}it does not take masks, positions or a cache", torch.OutOfMemoryError
    with explained(what, kinds=_REFUSALS, keep=(UserError, keep)), evaluating(model):
        at_once, elsewhere = denoiser(noised, clean), denoiser(noised, clean.flip(1))
        context, parts = denoiser.context(), []
        for block in range(0, 6, 2):
            parts.append(context(noised[:, block : block + 2], torch.ones(2)))
            context.append(clean[:, block : block + 2])
    gap = (torch.cat(parts, 1) - at_once).abs().max()
    # Relative to the effect of another context, which is small in an untrained model.
    if not gap <= 1e-2 * (at_once - elsewhere).abs().max():
        raise UserError(f"{why}it does not follow an attention mask; take a llama, gpt2, qwen, ...")
