"""The text pipeline of diffusion models: generate, infill, transform and score.

pipeline = Unmasker.from_pretrained("roberta-base")
pipeline.generate("Following their victory", length=100, steps=10).texts
pipeline.infill("The [MASK] sat on [MASK:3-8].").texts
pipeline.transform("How do I learn to swim?", candidates=3).texts  # if it was trained on pairs
pipeline.score("Some text").bits_per_char
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from unmask.data import unknown_tokens
from unmask.data.pairs import PairCodec
from unmask.data.records import RecordCodec
from unmask.data.templates import like_a_mark
from unmask.data.text import TextCodec
from unmask.data.text_rows import Text
from unmask.errors import UserError
from unmask.models import loading
from unmask.models.checkpoint import Card
from unmask.models.positions import entries_of, position_limit
from unmask.models.runtimes import select
from unmask.models.traits import check_masks, traits_of
from unmask.pipelines.base import CACHES, denoiser_of, formulation_of
from unmask.pipelines.generation import Watch, generate_texts, resolve
from unmask.pipelines.layout_options import PairOptions
from unmask.pipelines.output import Generated
from unmask.pipelines.pairs import generate_targets
from unmask.pipelines.prompts import has_blank, lay_out
from unmask.pipelines.request import GenerationRequest
from unmask.pipelines.scoring import ScoringMixin
from unmask.pipelines.top import Candidate, top
from unmask.sampling.canvas import Frame
from unmask.validation import one_of, place, whole, word, words


class Unmasker(ScoringMixin):
    """A masked language model that generates, infills and scores text.

    Args:
        model: Any ``*ForMaskedLM``, or any ``*ForCausalLM`` if its card names a block length.
        codec: Its tokenizer as a codec.
        card: Process, schedule, default sampler and history.
        counts: How often each token occurs in the training text, shape (V,), for the schedules
            that are made from it.
        backend: What computes the network; see ``runtimes.select.label``. Never ``auto``.
        network: What ``backends.prepare`` returned.
        cache: What the network keeps from call to call: ``exact`` keeps what cannot change (of an
            any-order model every generated token, of a block model the blocks before, of others
            nothing), ``off`` keeps nothing and generates the same text, ``frozen`` is an
            approximation for models with attention in both directions; see
            ``models.approximate_cache``.

    Raises:
        UserError: If there is no such cache, or the tokenizer does not fit the model.
    """

    def __init__(
        self,
        model: Any,
        codec: TextCodec,
        card: Card,
        counts: Tensor | None = None,
        backend: str = "torch",
        network: Any = None,
        cache: str = "exact",
    ) -> None:
        one_of("cache", cache, CACHES)
        if codec.tokenizer.mask_token_id is None:
            raise UserError("the tokenizer has no mask token, which diffusion needs")
        model, positions = model.eval(), position_limit(model)
        counts = None if counts is None else counts.to(model.device)
        denoiser = denoiser_of(model, codec, card, network, positions)
        codec.check_entries(entries_of(model))
        if not card.block_length:
            check_masks(model, codec.mask_token_id)
        formulation = formulation_of(model, codec, card, denoiser, counts)
        super().__init__(
            model, codec, card, denoiser, formulation, cache, backend, positions, counts
        )
        if card.block_length:
            self.limit = None if denoiser.window_blocks else self.row_length

    @classmethod
    def from_pretrained(
        cls,
        name: str | None = None,
        device: str | None = None,
        backend: str = "auto",
        cache: str = "exact",
    ) -> Unmasker:
        """Open a model.

        Args:
            name: A directory, a hub id, or None for the small model in the package.
            device: Such as ``cpu`` or ``cuda``; None takes cuda if there is one.
            backend: What computes the network; see ``runtimes.select``.
            cache: ``exact``, ``off`` or ``frozen``; see ``Unmasker``.

        Raises:
            UserError: If there is no such model, it is no masked language model, it was trained on
                images, it is damaged, or the backend cannot compute it.
        """
        name = loading.BUNDLED if name is None else place("the model", name)
        # An exported copy keeps nothing from call to call.
        backend, device = select.choose(backend, name, device, exported_too=cache != "frozen")
        card = loading.load_text_card(name) or Card()
        if card.kind == "causal":
            raise UserError(f"{name} was trained as a causal model, not as a masked one")
        if backend == "openvino":
            select.check_exportable(card)
        model, counts = loading.load_equipped(name, card)
        model = loading.place(model, device)
        codec = TextCodec(loading.load_tokenizer(name))
        backend = select.settle(backend, model, card)
        if not card.block_length:
            # Rounded weights would not show small differences.
            traits_of(model)
        network = select.prepare(backend, name, model)
        label = select.label(backend, name)
        return cls(model, codec, card, counts, label, network, cache)

    def generate(
        self,
        prompt: str | Sequence[str] = "",
        *,
        length: int | None = None,
        num_samples: int = 1,
        seed: int = 0,
        window: int | None = None,
        stride: int | None = None,
        stop_at_end: bool = False,
        choose_length: str | None = None,
        watch: Watch | None = None,
        **options: Any,
    ) -> Generated:
        """Generate text after a prompt, or on the blanks in it.

        Args:
            prompt: One prompt or several; ``[MASK]``, ``[MASK:5]`` or ``[MASK:3-8]`` in it are
                blanks. Around the blanks of a text that is longer than the model a window is cut,
                see ``pipelines.excerpts``; the rest of it comes back as it is.
            length: Tokens to generate after a prompt without blanks; 100 if None, or as many as
                fit. None with a model of records draws it from the lengths of its data for each
                sample. More than fit are generated chunk by chunk, see
                ``sampling.sliding_window``.
            num_samples: Samples of each prompt. Sample i of a prompt depends on (seed, i) alone,
                whatever else is in the batch.
            seed: Of the random numbers.
            window: Tokens that are seen at once of a longer row; None for all the model can see.
            stride: Tokens that each chunk adds to a longer row; None for half a window.
            stop_at_end: Generate nothing after the first generated end symbol. It ends the text
                in any case; this also saves the calls, and the row is shorter from then on.
            choose_length: ``sample`` (the default) draws the length of a blank with a range from
                the posterior of lengths given the rest of the text, ``likeliest`` takes its
                maximum. Each sample has a length of its own.
            watch: Called with every frame; see ``Watch``.
            options: ``sampler``: a name in ``sampling.SAMPLERS``, a ``Sampler``, or a ``Policy`` of
                one's own; and options of the sampler, see ``sampling.Sampler``. What is left out
                comes from the model's card, then from the defaults of the sampler. And guidance
                and constraints, see ``ControlOptions``.

        Raises:
            UserError: If an option is out of range or a row does not fit the model.
        """
        request = GenerationRequest(
            tuple(words("prompt", prompt)),
            length=length,
            num_samples=num_samples,
            seed=seed,
            window=window,
            stride=stride,
            stop_at_end=stop_at_end,
            choose_length=choose_length,
            settings=options,
        )
        return replace(generate_texts(request, self, watch), notes=self.notes(request.prompts))

    def infill(self, template: str | Sequence[str], **options: Any) -> Generated:
        """Fill the blanks of a template: ``generate`` for texts with at least one blank.

        The length of a blank with a range is drawn by how well it explains the given tokens, before
        anything is generated; see ``pipelines.rerank`` and the option ``choose_length``.

        Raises:
            UserError: If there is no blank in a template, or as ``generate`` does.
        """
        templates = words("template", template)
        self.require_blank(templates)
        return self.generate(templates, **options)

    def stream(self, prompt: str | Sequence[str] = "", **options: Any) -> Iterator[Frame]:
        """Yield frames while generating; arguments as in ``generate``, but for ``watch``.

        Row i of a frame is text i. The length of a blank with a range is chosen in this call; the
        network calls for it are not counted in the frames.
        """
        return resolve(GenerationRequest.of_batch(prompt, options), self).frames()

    def transform(
        self,
        source: str | Sequence[str],
        *,
        candidates: int = 1,
        seed: int = 0,
        watch: Watch | None = None,
        **options: Any,
    ) -> Generated:
        """Generate the target for a source, with a model that was trained on pairs.

        Args:
            source: One text or several.
            candidates: Targets to generate for each source, all in one batch; the one that agrees
                most with the others is kept (see ``pipelines.mbr``). Candidate i depends on
                (seed, i) alone.
            seed: Of the random numbers.
            watch: Called with every frame; see ``Watch``.
            options: As in ``generate``.

        Returns:
            One target per source, without the source.

        Raises:
            UserError: If the model was not trained on pairs, an option is out of range, a source is
                empty or too long, or NLTK is missing for a choice among candidates.
        """
        checked = PairOptions(candidates=candidates, seed=seed)
        request = GenerationRequest(
            tuple(words("source", source)),
            num_samples=checked.candidates,
            seed=checked.seed,
            settings=options,
        )
        result = generate_targets(request, self, self.pairs, watch)
        return replace(result, notes=self.notes(request.prompts))

    @property
    def pairs(self) -> PairCodec:
        """How the model was trained to see a source and its target.

        Raises:
            UserError: If it was not trained on pairs.
        """
        if not self.card.pairs:
            raise UserError(
                "this model was not trained on pairs of source and target; train one with the "
                "recipe pairs"
            )
        return PairCodec(
            self.codec, length=self.card.sequence_length or self.row_length, **self.card.pairs
        )

    @property
    def records(self) -> RecordCodec:
        """How the model was trained to see a text as a row of its own.

        Raises:
            UserError: If it was not trained on records.
        """
        if not self.card.records:
            raise UserError(
                "this model was not trained on records; train one with data.rows = 'records'"
            )
        return RecordCodec(self.codec, self.card.sequence_length or self.row_length)

    def rows(self, text: Any, window: int | None = None, stride: int | None = None) -> Text:
        """Return the rows that ``score`` cuts a text into; see ``Pipeline.rows``.

        For a model of records each document is a row; those that do not fit are left out.
        """
        if not self.card.records:
            return super().rows(text, window, stride)
        for name, value in (("window", window), ("stride", stride)):
            if value is not None:
                self.require("scoring_window", name)
        return Text.from_records(self.records.lay_out(words("text", text)), self.codec)

    def top(self, template: str, k: int = 5) -> tuple[tuple[Candidate, ...], ...]:
        """Return the likeliest tokens of every masked position, as a fill-mask pipeline does.

        One network call, with all blanks masked; see ``pipelines.top.Candidate`` for the
        probabilities.

        Args:
            template: A text with blanks of one length each.
            k: Tokens for each position.

        Returns:
            For each masked position from left to right k candidates, the likeliest first; no
            special symbols among them.

        Raises:
            UserError: If there is no blank, its length is open, k is out of range, the template is
                longer than the model, or the model has no masks or generates blocks.
        """
        self.require_blank([word("template", template)])
        rows = lay_out(GenerationRequest((template,)), self).to(self.device)
        return top(self, rows, whole("k", k))

    def require_blank(self, templates: Sequence[str]) -> None:
        """Raise a UserError unless every template holds a blank."""
        for text in templates:
            if not has_blank(self.codec, text):
                meant = like_a_mark(text)
                where = "" if meant is None else f" in place of {meant}"
                raise UserError(f"there is no blank; write [MASK], [MASK:5] or [MASK:3-8]{where}")

    def notes(self, prompts: Sequence[str]) -> tuple[str, ...]:
        """Return notes on the given text of prompts or templates, such as on unknown tokens.

        One sentence each; none where nothing is worth saying.
        """
        parts = chain.from_iterable(map(self.codec.template, prompts))
        texts = [part for part in dict.fromkeys(parts) if isinstance(part, str)]
        ids = torch.tensor([i for own in self.codec.encode_all(texts) for i in own])
        return unknown_tokens.noted(self.codec, texts, ids)
