"""The other way to write: a causal language model, left to right, behind the same methods.

For races and for scores in the same units. Generation is transformers' own, with its KV cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from unmask.data.text import TextCodec
from unmask.data.text_rows import Text, window_of
from unmask.errors import UserError
from unmask.evaluation.likelihood import Part, score_text
from unmask.evaluation.scores import Score
from unmask.models import loading
from unmask.models.causal import Stopwatch, next_token_nats
from unmask.models.checkpoint import Card
from unmask.models.runtimes import select
from unmask.pipelines import recorder
from unmask.pipelines.filling import continued
from unmask.pipelines.output import Generated
from unmask.pipelines.prompts import check_numbers, what_fits
from unmask.pipelines.trace import Snapshot, Track
from unmask.sampling.logits_processors import Restriction
from unmask.sampling.samplers.base import MAX_LENGTH
from unmask.sampling.token_sampling import Draw
from unmask.validation import place, real, whole, word, words

Watch = Callable[[Snapshot], None]
"""Called with the first row after every token."""


class Autoregressor:
    """A causal language model that writes and scores text.

    Args:
        model: Any ``*ForCausalLM``.
        codec: Its tokenizer as a codec.
        card: Its history, if it was trained here.
        backend: What computes the network, for the record; see ``runtimes.select``.
    """

    def __init__(self, model: Any, codec: TextCodec, card: Card, backend: str = "torch") -> None:
        if not codec.start:
            raise UserError("the tokenizer has no start symbol to predict the first token from")
        self.model = model.eval()
        self.codec = codec
        self.card = card
        self.backend = backend
        self.limit = getattr(model.config, "max_position_embeddings", None)

    @classmethod
    def from_pretrained(
        cls, name: str, device: str | None = None, backend: str = "auto"
    ) -> Autoregressor:
        """Open a causal model from a directory or hub id.

        Args:
            name: A directory or hub id.
            device: Such as ``cpu`` or ``cuda``; None takes cuda if there is one.
            backend: ``auto``, ``torch`` or ``torch-packed``; see ``runtimes.select``.

        Raises:
            UserError: If there is no such model, it is damaged, or the backend is another one.
        """
        name = place("the model", name)
        backend, device = select.choose(backend, name, device)
        if backend not in ("auto", "torch", "torch-packed"):
            raise UserError(f"{name} is autoregressive; {backend} is for diffusion models")
        card = loading.load_card(name) or Card(kind="causal")
        if card.kind == "block":
            raise UserError(f"{name} writes block after block; open it as an Unmasker")
        model = loading.place(loading.load_model(name, "causal"), device)
        backend = select.settle(backend, model, card)
        select.prepare(backend, name, model)
        return cls(model, TextCodec(loading.load_tokenizer(name)), card, backend)

    def generate(
        self,
        prompt: str = "",
        *,
        length: int | None = None,
        num_samples: int = 1,
        seed: int = 0,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float | None = None,
        ban: str | Sequence[str] | None = None,
        watch: Watch | None = None,
    ) -> Generated:
        """Write exactly ``length`` tokens after a prompt, one network call a token.

        Args:
            prompt: Text to continue.
            length: Tokens to write; 100 if None, or as many as fit.
            num_samples: Samples in one batch.
            seed: Of the random numbers.
            temperature: Divides the logits; 0 takes the most likely token. 1 if None.
            top_k: Draw among the k most likely tokens.
            top_p: Draw among the fewest tokens that hold this much probability. 1 if None.
            min_p: Draw among the tokens at least this many times as likely as the likeliest. 0 if
                None.
            repetition_penalty: Above 1, tokens that are there already become less likely.
            ban: Texts that are never written.
            watch: Called with the first row after every token.

        Raises:
            UserError: If an option is out of range or the text does not fit the model.
        """
        num_samples, seed = whole("num_samples", num_samples), whole("seed", seed)
        check_numbers("num_samples", num_samples, seed)
        draw = Draw(
            1.0 if temperature is None else real("temperature", temperature),
            None if top_k is None else whole("top_k", top_k),
            1.0 if top_p is None else real("top_p", top_p),
            min_p=0.0 if min_p is None else real("min_p", min_p),
        )
        if repetition_penalty is not None:
            repetition_penalty = real("repetition_penalty", repetition_penalty)
        restriction = Restriction.of(repetition_penalty, ban)
        spellings = [ids for text in restriction.ban for ids in self.codec.spellings(text)]
        prompt = word("prompt", prompt)
        given = [*self.codec.start, *self.codec.encode(prompt)]
        length = what_fits(self.limit, len(given)) if length is None else whole("length", length)
        self._check(length, len(given))
        notes: list[tuple[float, list[int]]] = []

        def picture(seconds: float, ids: list[int]) -> Snapshot:
            total = len(given) + length
            return recorder.left_to_right(self.codec, ids, len(given), total, seconds)

        def notice(seconds: float, ids: list[int]) -> None:
            # Pictures are drawn afterwards: they would slow the writing down.
            notes.append((seconds, ids))
            if watch is not None:
                watch(picture(seconds, ids))

        ids = torch.tensor([given] * num_samples, device=self.model.device)
        started = time.perf_counter()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            out = self._generate(
                ids,
                draw,
                length,
                Stopwatch(notice),
                repetition_penalty=restriction.repetition_penalty,
                bad_words_ids=spellings or None,
                suppress_tokens=self._never or None,
            )
        seconds = time.perf_counter() - started
        return Generated(
            texts=tuple(continued(self.codec, row, len(given), prompt) for row in out.tolist()),
            nfe=length,
            seconds=seconds,
            seed=seed,
            settings={
                "sampler": "autoregressive",
                "length": length,
                "num_samples": num_samples,
                "temperature": draw.temperature,
                "top_k": draw.top_k,
                "top_p": draw.top_p,
            }
            | ({"min_p": draw.min_p} if draw.min_p else {})
            | ({} if self.backend == "torch" else {"backend": self.backend})
            | restriction.settings,
            tracks=(Track("autoregressive", tuple(picture(*note) for note in notes)),),
        )

    def score(
        self,
        text: str | Text,
        *,
        seed: int = 0,
        batch_size: int = 32,
        advance: Callable[[int], None] = lambda rows: None,
    ) -> Score:
        """Return the exact -log p(text), cut into the rows that the model was trained on.

        Args:
            text: A text, or the rows of one.
            seed: For the record; nothing here is random.
            batch_size: Rows at a time.
            advance: Called with the number of rows done.
        """

        def nats(part: Part) -> Tensor:
            return next_token_nats(self.model, part.rows, part.editable)

        return score_text(
            text if isinstance(text, Text) else self.rows(word("text", text)),
            nats,
            kind="exact",
            batch_size=batch_size,
            seed=seed,
            device=self.model.device,
            advance=advance,
        )

    def rows(
        self, text: str | Sequence[str], window: int | None = None, stride: int | None = None
    ) -> Text:
        """Return a text, or several documents, in the rows that ``score`` cuts it into.

        See ``Unmasker.rows``.
        """
        length = window_of(window, self.row_length, self.limit)
        return Text.from_documents(words("text", text), self.codec, length, stride)

    @property
    def row_length(self) -> int:
        """Tokens in a row of text to be scored: what the model was trained on, at most 512."""
        return min(self.card.sequence_length or 512, self.limit or 512)

    @property
    def _never(self) -> list[int]:
        """The symbols that are not written: all that stand for no text, but for the end."""
        return [i for i in self.codec.symbols if i != self.codec.end]

    def _check(self, length: int, prompt: int) -> None:
        if not 1 <= length <= MAX_LENGTH:
            raise UserError(f"length must be from 1 to {MAX_LENGTH} tokens, not {length}")
        if self.limit is not None and prompt + length > self.limit:
            raise UserError(
                f"prompt and length make {prompt + length} tokens, but the model has {self.limit} "
                "positions; shorten the prompt or the length"
            )

    def _generate(
        self, ids: Tensor, draw: Draw, length: int, streamer: Stopwatch, **restrictions: Any
    ) -> Tensor:
        greedy = draw.temperature == 0
        filters = {"temperature": draw.temperature, "top_k": draw.top_k or 0, "top_p": draw.top_p}
        filters |= {"min_p": draw.min_p} if draw.min_p else {}
        choices = {} if greedy else filters
        return self.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=not greedy,
            min_new_tokens=length,
            max_new_tokens=length,
            pad_token_id=self.codec.end or 0,
            streamer=streamer,
            **choices,
            **restrictions,
        )
