r"""The objective of DiffusionBERT's released code: no bound on the likelihood, for comparison only.

    alpha_i(j) = clip(1 - j / T + strength sin(pi j / T) g_i, 0, 0.999),   alpha_i(0) = 1,
    g_i = f(x_i) - mean over the sentence of f(x)

    value = sum_{j=1..T} E sum over masked positions of  -u_i(j) log mu_x,
    u_i(j) = b alpha_i(j-1) / (b alpha_i(j-1) + 1 - alpha_i(j-1)),    b = 1 / (T - j + 1)

Three things keep it from being a bound. The posterior u combines the spindle's alpha with the b of
the plain linear schedule, so it is the posterior of no chain. g depends on every clean word of the
sentence. And the model's reverse step uses the alpha of the true token, which it cannot know: the
value lacks this information, and an exact denoiser brings it below the entropy. The
valid form of the same idea is ``schedules.per_token.spindle`` with ``tokenwise_discrete_nelbo``.

References: He et al. 2022, "DiffusionBERT", arXiv:2211.15029, Section 4.2, and its code,
github.com/Hzfinfdu/Diffusion-BERT, read in ``diffusion_word_freq.py`` and ``DDP_main.py``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from unmask.diffusion.denoiser import Denoiser
from unmask.diffusion.processes.base import Corrupted


@dataclass(frozen=True, eq=False)
class ReleasedSpindle:
    """The corruption of the released code, whose rates depend on the whole clean sentence.

    Args:
        frequency: f(v) in [0, 1], shape (V,); see ``schedules.per_token.log_frequency``.
        mask_token_id: Id of the mask token.
        num_steps: T.
        strength: Their ``word_freq_lambda``.
    """

    frequency: Tensor
    mask_token_id: int
    num_steps: int = 2048
    strength: float = 0.3

    def visible(self, x0: Tensor, index: Tensor, editable: Tensor) -> Tensor:
        """Return alpha_i(j) for the steps ``index`` (B,) in 0..T, shape (B, L), float64."""
        share = index.double()[:, None] / self.num_steps
        f = self.frequency.to(share)[x0] * editable
        g = f - f.sum(1, keepdim=True) / editable.sum(1, keepdim=True).clamp_min(1)
        bulge = self.strength * torch.sin(math.pi * share) * g
        return torch.where(share == 0, 1, (1 - share + bulge).clamp(0, 0.999))

    def corrupt(
        self, x0: Tensor, index: Tensor, editable: Tensor, generator: torch.Generator
    ) -> Corrupted:
        """Hide each editable token i with probability 1 - alpha_i(j)."""
        rng = torch.rand(x0.shape, dtype=torch.float64, generator=generator, device=x0.device)
        masked = (rng < 1 - self.visible(x0, index, editable)) & editable
        return Corrupted(x0.masked_fill(masked, self.mask_token_id), masked)

    def reveal_prob(self, x0: Tensor, index: Tensor, editable: Tensor) -> Tensor:
        """Return u_i(j), shape (B, L), float64: 1 at j = 1, and 1 / j without a spindle."""
        visible = self.visible(x0, index - 1, editable)
        revealed = visible / (self.num_steps - index.double() + 1)[:, None]
        return revealed / (revealed + 1 - visible)


def released_diffusionbert(
    denoiser: Denoiser,
    process: ReleasedSpindle,
    x0: Tensor,
    t: Tensor,
    editable: Tensor,
    generator: torch.Generator,
    valid: Tensor | None = None,
) -> Tensor:
    """Estimate what the released code calls its ELBO. Not a bound: it can lie below the entropy.

    Args:
        denoiser: The network.
        process: Its corruption.
        x0: Clean ids, shape (B, L), int64.
        t: Uniform times in (0, 1], shape (B,); each is rounded up to the grid j / T.
        editable: Shape (B, L), bool; the positions that are modelled.
        generator: Source of randomness for the masks.
        valid: Shape (B, L), bool; False on padding.

    Returns:
        T times the value of one step, in nats per sequence, shape (B,).
    """
    index = torch.ceil(t.double() * process.num_steps).clamp(1, process.num_steps)
    noised = process.corrupt(x0, index, editable, generator)
    logits = denoiser(noised.ids, index / process.num_steps, at=noised.masked, valid=valid)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    nats = cross_entropy(logits, x0[noised.masked], reduction="none")
    weight = process.reveal_prob(x0, index, editable)[noised.masked].to(nats.dtype)
    row = noised.masked.nonzero()[:, 0]
    return process.num_steps * nats.new_zeros(len(x0)).index_add(0, row, weight * nats)
