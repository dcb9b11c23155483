"""The pipeline of causal language models: left to right, with the methods of ``Unmasker``.

For comparisons and for scores in the same units. Generation is transformers' own, with its KV
cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from unmask.data.text import TextCodec
from unmask.errors import UserError
from unmask.models import loading
from unmask.models.causal import Stopwatch
from unmask.models.checkpoint import Card
from unmask.models.runtimes import select
from unmask.pipelines.causal import CausalPipeline
from unmask.pipelines.filling import continued
from unmask.pipelines.output import Generated
from unmask.pipelines.prompts import what_fits
from unmask.pipelines.recorder import LeftToRightRecorder
from unmask.pipelines.request import GenerationRequest
from unmask.pipelines.trace import Snapshot
from unmask.sampling.logits_processors import Restriction
from unmask.sampling.samplers.base import TokenOptions
from unmask.sampling.token_sampling import Draw
from unmask.validation import place, read_options, word

Watch = Callable[[Snapshot], None]
"""Called with the first row after every token."""


class Autoregressor(CausalPipeline):
    """A causal language model that generates and scores text.

    Args:
        model: Any ``*ForCausalLM``.
        codec: Its tokenizer as a codec.
        card: Its history, if it was trained here.
        backend: What computes the network, for the record; see ``runtimes.select``.
    """

    def __init__(self, model: Any, codec: TextCodec, card: Card, backend: str = "torch") -> None:
        if not codec.start:
            raise UserError("the tokenizer has no start symbol to predict the first token from")
        positions = getattr(model.config, "max_position_embeddings", None)
        super().__init__(model.eval(), codec, card, backend, positions)

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
        card = loading.load_text_card(name) or Card(kind="causal")
        if card.kind == "block":
            raise UserError(f"{name} is a block model; open it as an Unmasker")
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
        watch: Watch | None = None,
        **options: Any,
    ) -> Generated:
        """Generate exactly ``length`` tokens after a prompt, one network call a token.

        Args:
            prompt: Text to continue.
            length: Tokens to generate; 100 if None, or as many as fit.
            num_samples: Samples in one batch.
            seed: Of the random numbers.
            watch: Called with the first row after every token.
            options: ``temperature``, ``top_k``, ``top_p``, ``min_p``, ``repetition_penalty`` and
                ``ban``; see ``sampling.samplers.base.TokenOptions``.

        Raises:
            UserError: If there is no such option, one is out of range or the text does not fit the
                model.
        """
        request = GenerationRequest(
            (word("prompt", prompt),), length=length, num_samples=num_samples, seed=seed
        ).in_one_batch()
        draw, restriction = _read(options)
        given = [*self.codec.start, *self.codec.encode(prompt)]
        size = what_fits(self.limit, len(given)) if request.length is None else request.length
        self._check_fits(len(given), size)
        recorder = LeftToRightRecorder(self.codec, len(given), len(given) + size, watch)
        started = time.perf_counter()
        out = self._sample(request, given, size, draw, restriction, recorder)
        seconds = time.perf_counter() - started
        return Generated(
            texts=tuple(continued(self.codec, row, len(given), prompt) for row in out.tolist()),
            nfe=size,
            seconds=seconds,
            seed=request.seed,
            settings=self._settings(request, size, draw, restriction),
            tracks=(recorder.track(),),
        )

    def _check_fits(self, given: int, length: int) -> None:
        if self.limit is not None and given + length > self.limit:
            raise UserError(
                f"prompt and length make {given + length} tokens, but the model has {self.limit} "
                "positions; shorten the prompt or the length"
            )

    def _sample(
        self,
        request: GenerationRequest,
        given: list[int],
        length: int,
        draw: Draw,
        restriction: Restriction,
        recorder: LeftToRightRecorder,
    ) -> Tensor:
        """Return the rows that transformers generates after the given ids, (N, L)."""
        ids = torch.tensor([given] * request.num_samples, device=self.device)
        greedy = draw.temperature == 0
        filters = {"temperature": draw.temperature, "top_k": draw.top_k or 0, "top_p": draw.top_p}
        filters |= {"min_p": draw.min_p} if draw.min_p else {}
        banned = [ids for text in restriction.ban for ids in self.codec.spellings(text)]
        # All symbols that stand for no text, except the end.
        symbols = [i for i in self.codec.symbols if i != self.codec.end]
        with torch.random.fork_rng():
            torch.manual_seed(request.seed)
            rows: Tensor = self.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=not greedy,
                min_new_tokens=length,
                max_new_tokens=length,
                pad_token_id=self.codec.end or 0,
                streamer=Stopwatch(recorder),
                repetition_penalty=restriction.repetition_penalty,
                bad_words_ids=banned or None,
                suppress_tokens=symbols or None,
                **({} if greedy else filters),
            )
        return rows

    def _settings(
        self, request: GenerationRequest, length: int, draw: Draw, restriction: Restriction
    ) -> dict[str, Any]:
        """Return the options in force, for the record."""
        found = {
            "sampler": "autoregressive",
            "length": length,
            "num_samples": request.num_samples,
            "temperature": draw.temperature,
            "top_k": draw.top_k,
            "top_p": draw.top_p,
        }
        found |= {"min_p": draw.min_p} if draw.min_p else {}
        return found | self.computed_by | restriction.settings


def _read(options: Mapping[str, Any]) -> tuple[Draw, Restriction]:
    """Return how a token is drawn, and what is never generated."""
    given = read_options(TokenOptions.options(), options, "sampling")
    restricting = {k: v for k, v in given.items() if k in Restriction.options()}
    drawing = {k: v for k, v in given.items() if k not in restricting}
    return Draw(**drawing), Restriction(**restricting)
