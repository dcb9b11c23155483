"""The composition root: a model, its tokenizer and its card as one thing that writes and scores.

writer = Unmasker.from_pretrained("roberta-base")
writer.generate("Following their victory", length=100, steps=10).texts
writer.infill("The [MASK] sat on [MASK:3-8].").texts
writer.transform("How do I learn to swim?", candidates=3).texts  # if it was trained on pairs
writer.score("Some text").bits_per_char
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from inspect import signature
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unmask.data import unknown_tokens
from unmask.data.pairs import PairCodec
from unmask.data.records import RecordCodec
from unmask.data.templates import like_a_mark
from unmask.data.text import TextCodec
from unmask.data.text_rows import Text, window_of
from unmask.diffusion.denoiser import uses_time
from unmask.diffusion.formulation import Bound, UniformFormulation, check_steps
from unmask.diffusion.objectives import chain_rule
from unmask.diffusion.registry import make_formulation
from unmask.errors import UserError, did_you_mean
from unmask.evaluation.likelihood import (
    MAX_DRAWS,
    Part,
    RowNats,
    bound_of_rows,
    bound_of_tokens,
    score_text,
)
from unmask.evaluation.scores import Score
from unmask.models import extra_weights, loading
from unmask.models.any_order import make_denoiser
from unmask.models.checkpoint import Card
from unmask.models.decoder import DecoderDenoiser
from unmask.models.encoder import check_vocabulary, not_data_ids
from unmask.models.positions import entries_of, position_limit
from unmask.models.runtimes import select
from unmask.models.runtimes.openvino import ExportedDenoiser
from unmask.models.saving import Saved
from unmask.models.traits import check_masks, traits_of
from unmask.pipelines import mbr
from unmask.pipelines.control_options import Steering
from unmask.pipelines.excerpts import by_text, cut_out
from unmask.pipelines.filling import fill, target
from unmask.pipelines.generation import CACHES, Network, Run, Watch
from unmask.pipelines.output import Generated, joined
from unmask.pipelines.prompts import (
    MAX_ROWS,
    Plan,
    batches,
    check_left_to_right,
    check_numbers,
    has_blank,
    lay_out,
    make_pair_plan,
    make_plan,
)
from unmask.pipelines.sampler_options import choose_preset, sampler_grid
from unmask.pipelines.top import Candidate, top
from unmask.sampling.canvas import Frame
from unmask.sampling.samplers.registry import OPTIONS
from unmask.validation import flag, place, whole, word, words


class Unmasker:
    """A masked language model that writes, fills in and scores text.

    Args:
        model: Any ``*ForMaskedLM``, or any ``*ForCausalLM`` if its card names a block length.
        codec: Its tokenizer as a codec.
        card: Process, schedule, default sampler and history.
        counts: How often each token occurs in the training text, shape (V,), for the schedules
            that are made from it.
        backend: What computes the network; see ``runtimes.select.label``. Never ``auto``.
        network: What ``backends.prepare`` returned.
        cache: What the network keeps from call to call while it writes: ``exact`` keeps what cannot
            change (of a model that writes in any order every written token, of one that writes in
            blocks the blocks before, of others nothing), ``off`` keeps nothing and writes the same,
            ``frozen`` is an approximation for models with attention in both directions; see
            ``models.approximate_cache``.

    Raises:
        UserError: If there is no such cache, or the model cannot have it.
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
        if cache not in CACHES:
            raise UserError(f"unknown cache {cache!r}{did_you_mean(cache, CACHES)}")
        if codec.tokenizer.mask_token_id is None:
            raise UserError("the tokenizer has no mask token, which diffusion needs")
        self.model = model.eval()
        self.codec = codec
        self.card = card
        self.backend, self.cache = backend, cache
        self._positions = self.limit = position_limit(model)
        counts = None if counts is None else counts.to(model.device)
        self.denoiser: Any = self._denoiser(network)
        check_vocabulary(codec, entries_of(model))
        if card.block_length:
            self.limit = None if self.denoiser.window_blocks else self.row_length
        else:
            check_masks(model, codec.mask_token_id)
        self.formulation = make_formulation(
            card.process,
            card.schedule,
            mask_token_id=codec.mask_token_id,
            vocab_size=self.denoiser.vocab_size,
            data_ids=self.denoiser.data_ids,
            num_steps=card.num_steps,
            counts=counts,
            learned=extra_weights.learned_of(model),
            attention=card.attention,
            block_length=card.block_length,
        )
        self._counts = counts

    def _denoiser(self, network: Any) -> Any:
        model, codec, card = self.model, self.codec, self.card
        if card.block_length:
            vocab_size = model.get_output_embeddings().out_features
            return DecoderDenoiser(
                model,
                not_data_ids(codec.tokenizer, vocab_size),
                codec.mask_token_id,
                card.block_length,
                start=len(codec.start),
                window=self.row_length,
            )
        not_data = not_data_ids(codec.tokenizer, traits_of(model).vocab_size)
        original = make_denoiser(model, not_data, codec.mask_token_id)
        return original if network is None else ExportedDenoiser(network, original)

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
            UserError: If there is no such model, it is no masked language model, it is damaged, or
                the backend cannot compute it.
        """
        name = loading.BUNDLED if name is None else place("the model", name)
        # Of an exported copy nothing can be kept from call to call.
        backend, device = select.choose(backend, name, device, exported_too=cache != "frozen")
        card = loading.load_card(name) or Card()
        if card.kind == "causal":
            raise UserError(f"{name} was trained as a causal model, not as a masked one")
        if backend == "openvino":
            select.check_exportable(card)
        model, counts = loading.load_equipped(name, card)
        model = loading.place(model, device)
        codec = TextCodec(loading.load_tokenizer(name))
        backend = select.settle(backend, model, card)
        if not card.block_length:
            # Once its weights are rounded, small differences show nothing.
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
        """Write after a prompt, or on the blanks that it holds.

        Args:
            prompt: One prompt or several; ``[MASK]``, ``[MASK:5]`` or ``[MASK:3-8]`` in it are
                blanks. Around the blanks of a text that is longer than the model a window is cut,
                see ``pipelines.excerpts``; the rest of it comes back as it is.
            length: Tokens to write after a prompt without blanks; 100 if None, or as many as fit;
                of a model of records drawn from the lengths of its data for each sample.
                More than fit are written stretch by stretch, see ``sampling.sliding_window``.
            num_samples: Samples of each prompt. Sample i of a prompt depends on (seed, i) alone,
                whatever else is in the batch.
            seed: Of the random numbers.
            window: Tokens that are seen at once of a longer row; None for all the model can see.
            stride: Tokens that each stretch adds to a longer row; None for half a window.
            stop_at_end: Write nothing behind the first end symbol that is written. It ends the text
                in any case; this also spares the calls, and the row is shorter from then on.
            choose_length: ``sample`` (the default) draws the length of a blank with a range from
                the posterior of lengths given the rest of the text, ``likeliest`` takes its
                maximum. Each sample has a length of its own.
            watch: Called with every frame; see ``Watch``.
            options: ``sampler``: a name in ``sampling.SAMPLERS``, a ``Sampler``, or a ``Policy`` of
                one's own; and options of the sampler, see ``sampling.Sampler``. What is left out
                comes from the model's card, then from the defaults of the sampler.
                And what the text is steered by, see ``Steering``: ``guidance_scale``,
                ``classifier``, ``label``, ``matching`` and the rest.

        Raises:
            UserError: If an option is out of range or a row does not fit the model.
        """
        prompts, samples = words("prompt", prompt), whole("num_samples", num_samples)
        if not prompts:
            raise UserError(
                "there is nothing to write: give at least one prompt, which may be empty"
            )
        # Of blocks there is nothing behind a blank to leave out, and a record is never cut.
        sight = None if self.card.block_length or self.card.records else self.limit
        excerpts = [cut_out(self.codec, text, sight) for text in prompts]
        parts, blanks = list[Generated](), list[list[int]]()
        goes = batches(self.codec, [t for text in excerpts for t in text.templates], samples)
        is_open = any(batch.is_open for batch in goes)
        for batch in goes:
            run, settings = self._writing(
                batch.prompts,
                length=length,
                num_samples=batch.samples,
                first=batch.first,
                seed=seed,
                window=window,
                stride=stride,
                stop_at_end=stop_at_end,
                # What one of them can choose is no mistake of the others.
                choose_length=choose_length if batch.is_open or not is_open else None,
                **options,
            )
            parts.append(self._written(run, settings | {"num_samples": samples}, seed, watch))
            blanks += map(list, run.plan.blanks)
        result = joined(parts)
        texts = [text.filled(own) for text, own in by_text(result.texts, excerpts, samples)]
        if is_open:
            lengths = [[*chain(*own)] for _, own in by_text(blanks, excerpts, samples)]
            rule = {"choose_length": choose_length or "sample", "blank_lengths": lengths}
            result = replace(result, settings=result.settings | rule)
        written = by_text(result.fillings, excerpts, samples)
        fillings = [tuple(chain.from_iterable(own)) for _, own in written]
        return replace(
            result, texts=tuple(texts), fillings=tuple(fillings), notes=self.notes(prompts)
        )

    def _written(
        self, run: Run, settings: dict[str, Any], seed: int, watch: Watch | None
    ) -> Generated:
        film = run.film(watch)
        rows = range(len(run.plan.seeds))
        texts, fillings = zip(
            *(
                fill(self.codec, film.frames[-1], row, run.plan.blanks[row], run.plan.texts[row])
                for row in rows
            ),
            strict=True,
        )
        return Generated(
            texts=texts,
            nfe=film.frames[-1].nfe + run.nfe,
            seconds=film.seconds[-1],
            seed=int(seed),
            settings=settings,
            tracks=film.tracks(self.codec, settings["sampler"], rows),
            fillings=fillings,
        )

    def transform(
        self,
        source: str | Sequence[str],
        *,
        candidates: int = 1,
        seed: int = 0,
        watch: Watch | None = None,
        **options: Any,
    ) -> Generated:
        """Write the target for a source, with a model that was trained on pairs.

        Args:
            source: One text or several.
            candidates: Targets to write for each source, all in one batch; the one that agrees most
                with the others is kept (see ``pipelines.mbr``). Candidate i depends on (seed, i)
                alone.
            seed: Of the random numbers.
            watch: Called with every frame; see ``Watch``.
            options: As in ``generate``.

        Returns:
            One target per source, without the source.

        Raises:
            UserError: If the model was not trained on pairs, an option is out of range, a source is
                empty or too long, or NLTK is missing for a choice among candidates.
        """
        sources, seed = words("source", source), whole("seed", seed)
        candidates = whole("candidates", candidates)
        check_numbers("candidates", candidates, seed)
        size = MAX_ROWS // candidates
        parts = [sources[i : i + size] for i in range(0, max(len(sources), 1), size)]
        result = joined([self._targets(part, candidates, seed, watch, options) for part in parts])
        return replace(result, notes=self.notes(sources))

    def _targets(
        self,
        sources: list[str],
        candidates: int,
        seed: int,
        watch: Watch | None,
        options: Mapping[str, Any],
    ) -> Generated:
        """Return the targets for as many sources as are written in one go."""
        plan = make_pair_plan(self.pairs, sources, candidates, seed).to(self.model.device)
        bleu = mbr.bleu() if candidates > 1 else None
        run, settings = self._run(plan, options)
        film = run.film(watch)
        frame = film.frames[-1]
        written = [target(self.codec, frame, row) for row in range(len(frame.canvas.ids))]
        texts = [filling.text for filling in written]
        firsts = range(0, len(texts), candidates)
        kept = [
            i if bleu is None else i + mbr.choose(texts[i : i + candidates], bleu) for i in firsts
        ]
        return Generated(
            texts=tuple(texts[row] for row in kept),
            nfe=film.frames[-1].nfe,
            seconds=film.seconds[-1],
            seed=seed,
            settings=settings | {"candidates": candidates},
            tracks=film.tracks(self.codec, settings["sampler"], kept),
            fillings=tuple((written[row],) for row in kept),
        )

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

    def infill(self, template: str | Sequence[str], **options: Any) -> Generated:
        """Write on the blanks of a template: ``generate`` for texts that hold at least one.

        The length of a blank with a range is drawn by how well it explains the given tokens, before
        anything is written; see ``pipelines.rerank`` and the option ``choose_length``.

        Raises:
            UserError: If there is no blank in a template, or as ``generate`` does.
        """
        templates = words("template", template)
        self.require_blank(templates)
        return self.generate(templates, **options)

    def top(self, template: str, k: int = 5) -> tuple[tuple[Candidate, ...], ...]:
        """Return the likeliest tokens of every masked position, as a fill-mask pipeline does.

        One network call, with all blanks hidden; see ``pipelines.top.Candidate`` for the
        probabilities.

        Args:
            template: A text with blanks of one length each.
            k: Tokens for each position.

        Returns:
            For each masked position from left to right k candidates, the likeliest first; no
            special symbols among them.

        Raises:
            UserError: If there is no blank, its length is open, k is out of range, the template is
                longer than the model, or the model has no masks or writes in blocks.
        """
        self.require_blank([word("template", template)])
        plan = make_plan(self.codec, [template], None, 1, 0, self.limit).to(self.model.device)
        network = Network(
            self.denoiser, self.formulation, self.codec, self.cache, self.card.block_length
        )
        return top(network, plan, whole("k", k))

    def require_blank(self, templates: Sequence[str]) -> None:
        """Raise a UserError unless every template holds a blank."""
        for text in templates:
            if not has_blank(self.codec, text):
                meant = like_a_mark(text)
                where = "" if meant is None else f" in place of {meant}"
                raise UserError(f"there is no blank; write [MASK], [MASK:5] or [MASK:3-8]{where}")

    def stream(self, prompt: str | Sequence[str] = "", **options: Any) -> Iterator[Frame]:
        """Yield frames while writing; arguments as in ``generate``, but for ``watch``.

        Row i of a frame is text i. The length of a blank with a range is chosen in this call; the
        network calls for it are not counted in the frames.
        """
        return self._writing(prompt, **options)[0].frames()

    def score(
        self,
        text: str | Text,
        *,
        draws: int | None = None,
        seed: int = 0,
        batch_size: int = 32,
        num_steps: int = 0,
        grid: str | Sequence[float] | None = None,
        per_token: bool = False,
        advance: Callable[[int], None] = lambda rows: None,
    ) -> Score:
        """Return an upper bound on -log p(text), with its error.

        Args:
            text: Cut into rows of the length that the model was trained on, unless they are rows
                already.
            draws: Mask patterns per row; None for as many as bring the standard error over masks
                under 1 % of the nats.
            seed: Of the masks.
            batch_size: Rows at a time.
            num_steps: T for the bound of the sampler ``ancestral`` with T steps; 0 for the method's
                own bound, which for masks and one schedule is that of continuous time.
            grid: The times of these steps, as for ``generate``; None for those that ``ancestral``
                takes, or equal steps for a model that was trained in steps.
            per_token: Also estimate the share of every token.
            advance: Called with the number of rows done.

        Raises:
            UserError: If the text is empty, a number is below 1, the steps are not among those that
                the model was trained in, or its bound is known for whole rows only.
        """
        if draws is not None and not 1 <= (draws := whole("draws", draws)) <= MAX_DRAWS:
            raise UserError(f"draws must be from 1 to {MAX_DRAWS}, not {draws}")
        bound = self._bound(whole("num_steps", num_steps), grid)
        row_nats = bound_of_rows(self.denoiser, bound)
        if flag("per_token", per_token):
            token_bound = self.formulation.token_bound
            if token_bound is None or num_steps or grid is not None:
                raise UserError(
                    "this bound is known for whole rows only; leave per_token out, or score in an "
                    "order such as left-to-right"
                )
            row_nats = bound_of_tokens(self.denoiser, token_bound)
        return self._score(
            text, row_nats, draws=draws, batch_size=batch_size, seed=seed, advance=advance
        )

    def score_in_order(
        self,
        text: str | Text,
        order: str | Sequence[int] = "left-to-right",
        *,
        batch_size: int = 32,
        advance: Callable[[int], None] = lambda rows: None,
    ) -> Score:
        """Return the exact -log p(text) of writing one token at a time in a fixed order.

        A network that writes in any order is called once a row, any other one once a token.

        Args:
            text: As for ``score``.
            order: ``left-to-right``, ``right-to-left``, or the numbers of the tokens of a text of
                one row; see ``objectives.chain_rule.ranks``.
            batch_size: Rows at a time.
            advance: Called with the number of rows done.

        Raises:
            UserError: If there is no such order, or the model writes no tokens one by one.
        """

        def nats(part: Part) -> Tensor:
            rank = chain_rule.ranks(order, part.editable, part.valid)
            where = {"editable": part.editable, "valid": part.valid}
            return self.formulation.token_nats(self.denoiser, x0=part.rows, rank=rank, **where)

        return self._score(text, nats, kind="exact", batch_size=batch_size, advance=advance)

    def pseudo_score(
        self,
        text: str | Text,
        *,
        batch_size: int = 32,
        advance: Callable[[int], None] = lambda rows: None,
    ) -> Score:
        """Return the pseudo-log-likelihood of a text: every token given all others in its row.

        It is no likelihood and no bound; see ``objectives.chain_rule.pseudo_token_nats``. The
        arguments are those of ``score_in_order``.

        Raises:
            UserError: If the model does not see all other tokens, or has no masks.
        """
        if self.card.block_length or self.card.attention != "full":
            raise UserError(
                "a pseudo-log-likelihood needs a network that sees all other tokens, which this "
                "model does not; score it by its bound or in an order"
            )
        if isinstance(self.formulation, UniformFormulation):
            raise UserError("a model of the uniform process has no masks; score it by its bound")

        def nats(part: Part) -> Tensor:
            process: Any = self.formulation.process
            return chain_rule.pseudo_token_nats(
                self.denoiser, process, part.rows, part.editable, part.valid
            )

        return self._score(text, nats, kind="pseudo", batch_size=batch_size, advance=advance)

    def _score(self, text: str | Text, row_nats: RowNats, **options: Any) -> Score:
        rows = text if isinstance(text, Text) else self.rows(word("text", text))
        return score_text(rows, row_nats, device=self.model.device, **options)

    def _bound(self, num_steps: int, grid: str | Sequence[float] | None) -> Bound:
        """Return the method's own bound, or that of ``ancestral`` with so many steps."""
        if not num_steps and grid is None:
            return self.formulation.bound
        # A network that knows the time has seen none but those of its training.
        tied = isinstance(self.formulation, UniformFormulation) or uses_time(self.denoiser)
        tied = tied and bool(self.formulation.num_steps)
        if num_steps:
            check_steps(num_steps)
        if tied and grid is None:
            self.formulation.check_strides(num_steps)
            return self.formulation.in_steps(num_steps)
        times = sampler_grid(self.card.sampler, num_steps or None, grid)
        if tied:
            self.formulation.check_grid(times)
        return self.formulation.in_steps(len(times) - 1, times)

    def rows(
        self, text: str | Sequence[str], window: int | None = None, stride: int | None = None
    ) -> Text:
        """Return a text, or several documents, in the rows that ``score`` cuts it into.

        Args:
            text: One text, or documents one behind the other. To a model of records each of them is
                a row; those that do not fit are left out, see ``records``.
            window: Tokens in a row; None for ``row_length``.
            stride: Tokens that each row after the first predicts, conditioned on those before them
                in the row; None for rows that do not overlap.

        Raises:
            UserError: If there is no text, or window or stride is out of range.
        """
        if self.card.records:
            if window is not None or stride is not None:
                raise UserError("a model of records scores each as it is; leave window, stride out")
            return Text.from_records(self.records.lay_out(words("text", text)), self.codec)
        length = window_of(window, self.row_length, self._positions, self.card.block_length)
        return Text.from_documents(words("text", text), self.codec, length, stride)

    @property
    def row_length(self) -> int:
        """Tokens in a row of text to be scored: what the model was trained on, at most 512."""
        return min(self.card.sequence_length or 512, self._positions or 512)

    def save_pretrained(self, directory: str | Path, *, overwrite: bool = False) -> None:
        """Save as an ordinary Hugging Face directory with ``unmask.json`` beside it.

        Raises:
            UserError: If the directory holds something and ``overwrite`` is False, or the disk is
                full; what was there stays as it was. If the weights are rounded.
        """
        self._saved.save(Path(place("the folder", directory)), overwrite)

    def export(
        self, directory: str | Path, *, weights: str = "float32", overwrite: bool = False
    ) -> None:
        """Save as ``save_pretrained`` does, with a copy of the network for OpenVINO beside it.

        Args:
            directory: Where to.
            weights: Of the copy: ``float32``, or ``int8`` for a smaller and faster one.
            overwrite: Replace the model in the directory.

        Raises:
            UserError: As ``save_pretrained``; if OpenVINO is missing, the model is told the time,
                was trained on pairs or writes blocks, or it cannot be exported.
        """
        self._saved.export(Path(place("the folder", directory)), weights, overwrite)

    @property
    def _saved(self) -> Saved:
        if self.backend in ("torch-bf16", "torch-int8"):
            kind = "eight bits" if self.backend == "torch-int8" else "bfloat16"
            raise UserError(f"weights in {kind} are not saved; open the model with torch")
        return Saved(self.model, self.codec.tokenizer, self.card, self._counts)

    @property
    def _computed_by(self) -> dict[str, str]:
        """What the settings say of backend and cache: nothing of the usual ones."""
        found = {} if self.backend == "torch" else {"backend": self.backend}
        # The other two caches write the same text.
        return found | ({"cache": "frozen"} if self.cache == "frozen" else {})

    def _writing(
        self,
        prompt: str | Sequence[str],
        *,
        length: int | None = None,
        num_samples: int = 1,
        seed: int = 0,
        window: int | None = None,
        stride: int | None = None,
        stop_at_end: bool = False,
        choose_length: str | None = None,
        first: int = 0,
        **options: Any,
    ) -> tuple[Run, dict[str, Any]]:
        """Return a run that writes after prompts, and its settings; see ``generate``."""
        trained = "without masks" if isinstance(self.formulation, UniformFormulation) else None
        trained = "in blocks" if self.card.block_length else trained
        trained = "on records" if self.card.records else trained
        plan = lay_out(
            self.codec,
            words("prompt", prompt),
            length=None if length is None else whole("length", length),
            num_samples=whole("num_samples", num_samples),
            seed=whole("seed", seed),
            limit=self.limit,
            window=None if window is None else whole("window", window),
            stride=None if stride is None else whole("stride", stride),
            stop_at_end=flag("stop_at_end", stop_at_end),
            whole="on pairs" if self.card.pairs else trained,
            first=first,
            lengths=self.card.records.get("lengths"),
        )
        if self.card.block_length:
            check_left_to_right(plan)
        rule = None if choose_length is None else word("choose_length", choose_length)
        return self._run(plan.to(self.model.device), options, rule)

    def notes(self, prompts: Sequence[str]) -> tuple[str, ...]:
        """Return what there is to say of the text that prompts or templates give: what is unknown.

        One sentence each; none where nothing is worth saying.
        """
        parts = chain.from_iterable(map(self.codec.template, prompts))
        texts = [part for part in dict.fromkeys(parts) if isinstance(part, str)]
        ids = torch.tensor([i for own in self.codec.encode_all(texts) for i in own])
        return unknown_tokens.notes(
            self.codec, texts, unknown_tokens.count(self.codec, ids), len(ids)
        )

    def _run(
        self, plan: Plan, options: Mapping[str, Any], rule: str | None = None
    ) -> tuple[Run, dict[str, Any]]:
        """Return a run of what is asked for, and the settings that are in force."""
        _check_names(options)
        steering, rest = Steering.split(options)
        sampler, settings = choose_preset(self.card.sampler, rest)
        card = self.card
        network = Network(
            self.denoiser,
            self.formulation,
            self.codec,
            self.cache,
            card.block_length,
            ends=bool(card.training or card.pairs or card.block_length),
        )
        run = Run.of(network, plan, sampler, steering).with_lengths(rule)
        return run, settings | run.plan.settings | steering.settings | self._computed_by


def _check_names(options: Mapping[str, Any]) -> None:
    """Refuse what is no option of ``generate``, with all of them in view for the one meant."""
    rest = {"sampler"} | OPTIONS.keys() | Steering.options().keys()
    named = {
        name
        for name, kind in signature(Unmasker.generate).parameters.items()
        if kind.kind is kind.KEYWORD_ONLY
    }
    for name in options.keys() - rest:
        if name in named:
            raise UserError(f"{name!r} is an option of generate and not taken here; leave it out")
        raise UserError(f"there is no option {name!r}{did_you_mean(name, rest | named)}")
