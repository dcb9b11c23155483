"""Ways to generate tokens after a prompt: this package, naive loops, and GPT-2 with its cache.

The naive loops compute logits at every position in every pass and use the filters of transformers
and ``torch.multinomial``. They do not use this package.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from transformers import LogitsProcessorList, PreTrainedModel, TopKLogitsWarper, TopPLogitsWarper

from unmask.diffusion.denoiser import Denoiser
from unmask.diffusion.processes.absorbing import AbsorbingProcess
from unmask.diffusion.rng import RowRng
from unmask.diffusion.schedules.continuous import make_schedule
from unmask.models.any_order import AnyOrderDenoiser
from unmask.models.decoder import DecoderDenoiser
from unmask.models.encoder import EncoderDenoiser
from unmask.models.ordered_attention import attach
from unmask.sampling.blocks import sample_blocks
from unmask.sampling.canvas import Canvas, Frame
from unmask.sampling.logits_processors import Banned
from unmask.sampling.sampler import sample
from unmask.sampling.samplers.registry import make_sampler
from unmask.sampling.token_sampling import Draw

PROMPT = 16
SYMBOLS = 4


def prompt(rows: int, vocab: int, device: torch.device) -> Tensor:
    """Return random prompts without special tokens, shape (rows, 16)."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(SYMBOLS, vocab - 1, (rows, PROMPT), generator=generator).to(device)


def ours(
    denoiser: Denoiser,
    mask: int,
    name: str,
    steps: int,
    length: int,
    rows: int = 1,
    draw: Draw | None = None,
) -> Tensor:
    """Generate with a sampler of this package; returns ids, shape (rows, 16 + length).

    Args:
        denoiser: The network.
        mask: Id of the mask token.
        name: Name of the sampler.
        steps: Denoising steps.
        length: Tokens per text.
        rows: Texts.
        draw: Temperature and filters; None for those of the sampler.
    """
    chosen = make_sampler(name, steps=steps)
    device = denoiser.data_ids.device
    given = prompt(rows, denoiser.vocab_size, device).tolist()
    canvas = Canvas.from_rows([[*row, *[None] * length] for row in given], mask, 1).to(device)
    process = AbsorbingProcess(make_schedule("linear"), mask)
    rng, grid = RowRng(torch.arange(rows, device=device)), chosen.times(length)
    # Special tokens are banned by default.
    banned = Banned(denoiser, torch.arange(SYMBOLS, device=device))
    drawing = chosen.drawing if draw is None else draw
    for frame in sample(banned, process, canvas, chosen.policy, drawing, grid, rng):
        canvas = frame.canvas
    assert not canvas.masked.any()
    return canvas.ids


def blocks(model: PreTrainedModel, block_length: int, name: str, steps: int, length: int) -> Tensor:
    """Generate block by block, ``steps`` for each; returns ids, shape (1, 16 + length).

    The last id of the vocabulary is the mask.
    """
    chosen, mask = make_sampler(name, steps=steps), model.config.vocab_size - 1
    given = prompt(1, model.config.vocab_size, model.device)[0].tolist()
    canvas = Canvas.from_rows([[*given, *[None] * length]], mask, mask).to(model.device)
    rng = RowRng(torch.arange(1, device=model.device))
    process, grid = AbsorbingProcess(make_schedule("linear"), mask), chosen.times(block_length)

    context = DecoderDenoiser(model, [mask], mask, block_length).context()

    def sample_block(canvas: Canvas, rng: RowRng) -> Iterator[Frame]:
        return sample(context, process, canvas, chosen.policy, chosen.drawing, grid, rng)

    for frame in sample_blocks(context, canvas, rng, block_length, sample_block):
        canvas = frame.canvas
    assert not canvas.masked.any()
    return canvas.ids


def denoiser_of(model: PreTrainedModel, mask: int) -> EncoderDenoiser:
    """Return the encoder as a denoiser that never predicts its mask, start and padding."""
    return EncoderDenoiser(model, (0, 1, mask))


def any_order_of(model: PreTrainedModel, mask: int) -> AnyOrderDenoiser:
    """Return the encoder as a denoiser that attends to tokens in the order of generation."""
    attach(model)
    return AnyOrderDenoiser(model, (0, 1, mask), mask)


@torch.no_grad()
def plain_refine(
    model: PreTrainedModel, mask: int, steps: int, length: int, rows: int = 1
) -> Tensor:
    """Predict every token, remask each with a falling probability (Barry 2025, the blog)."""
    ids = _blank(model, mask, length, rows)
    filters = LogitsProcessorList([TopKLogitsWarper(50), TopPLogitsWarper(0.95)])
    for step in range(steps):
        logits = model(input_ids=ids).logits.float()
        probs = torch.softmax(filters(ids, logits.flatten(0, 1)), dim=-1)
        prediction = torch.multinomial(probs, 1).view_as(ids)
        remasked = torch.rand(ids.shape, device=ids.device) < 1 - (step + 1) / steps
        ids[:, PROMPT:] = torch.where(remasked, mask, prediction)[:, PROMPT:]
    return ids


@torch.no_grad()
def plain_confidence(
    model: PreTrainedModel, mask: int, steps: int, length: int, rows: int = 1
) -> Tensor:
    """Reveal the likeliest tokens at the most confident positions, the same number per pass."""
    ids = _blank(model, mask, length, rows)
    for step in range(steps):
        probs = torch.softmax(model(input_ids=ids).logits.float() / 0.8, dim=-1)
        confidence, prediction = probs.max(dim=-1)
        masked = ids == mask
        count = int(masked[0].sum()) - round(length * (1 - (step + 1) / steps))
        best = confidence.masked_fill(~masked, -1).topk(count, dim=1).indices
        ids.scatter_(1, best, prediction.gather(1, best))
    return ids


def llada2(
    model: PreTrainedModel, mask: int, steps: int, length: int, rows: int = 1, block: int = 256
) -> Tensor:
    """Generate with the pipeline of diffusers, the same number of tokens of a block per pass.

    Args:
        steps: Passes over each block.
        block: Tokens per block; the prompt is part of the first ones.
    """
    from diffusers import BlockRefinementScheduler, LLaDA2Pipeline

    pipeline = LLaDA2Pipeline(model=model, scheduler=BlockRefinementScheduler())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        input_ids=prompt(rows, model.config.vocab_size, model.device),
        gen_length=length,
        block_length=block,
        num_inference_steps=steps,
        temperature=1.0,
        # No prediction reaches this confidence, so every pass reveals its share.
        threshold=2.0,
        editing_threshold=None,
        eos_early_stop=False,
        mask_token_id=mask,
        output_type="seq",
    ).sequences


def autoregressive(model: PreTrainedModel, length: int, rows: int = 1) -> Tensor:
    """Generate with ``transformers.generate``: one token per call, keys and values cached."""
    given = prompt(rows, model.config.vocab_size, model.device)
    return model.generate(
        given,
        attention_mask=torch.ones_like(given),
        max_new_tokens=length,
        min_new_tokens=length,
        do_sample=True,
        top_k=50,
        top_p=0.95,
        pad_token_id=model.config.eos_token_id,
    )


def _blank(model: PreTrainedModel, mask: int, length: int, rows: int) -> Tensor:
    given = prompt(rows, model.config.vocab_size, model.device)
    return torch.cat([given, torch.full((rows, length), mask, device=given.device)], dim=1)
