"""Scores of a diffusion model: bounds, exact likelihoods in an order, pseudo-likelihoods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from unmask.diffusion.denoiser import uses_time
from unmask.diffusion.formulation import STEPS, Bound
from unmask.diffusion.objectives import chain_rule
from unmask.errors import UserError
from unmask.evaluation.likelihood import MAX_DRAWS, Part, bound_of_rows, bound_of_tokens
from unmask.evaluation.scores import Score
from unmask.pipelines.base import Advance, DiffusionPipeline
from unmask.pipelines.sampler_options import sampler_grid
from unmask.validation import flag, whole


class ScoringMixin(DiffusionPipeline):
    """The methods of ``Unmasker`` that score a text."""

    def score(
        self,
        text: Any,
        *,
        draws: int | None = None,
        seed: int = 0,
        batch_size: int = 32,
        num_steps: int = 0,
        grid: str | Sequence[float] | None = None,
        per_token: bool = False,
        advance: Advance = lambda rows: None,
    ) -> Score:
        """Return an upper bound on -log p(text), with its error.

        Args:
            text: A text, which is cut into rows of the length that the model was trained on; of a
                model of images (N, H, W, C), uint8; or rows, see ``rows``.
            draws: Mask patterns per row; None for as many as bring the standard error over masks
                under 1 % of the nats.
            seed: Of the masks.
            batch_size: Rows at a time.
            num_steps: T for the bound of the sampler ``ancestral`` with T steps; 0 for the
                formulation's own bound, which for masks and one schedule is that of continuous
                time.
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
        row_nats = bound_of_rows(self.denoiser, self._bound(whole("num_steps", num_steps), grid))
        if flag("per_token", per_token):
            token_bound = self.formulation.token_bound
            if token_bound is None or num_steps or grid is not None:
                raise UserError(
                    "this bound is known for whole rows only; leave per_token out, or score in an "
                    "order such as left-to-right"
                )
            row_nats = bound_of_tokens(self.denoiser, token_bound)
        options = {"draws": draws, "batch_size": batch_size, "seed": seed, "advance": advance}
        return self._score(text, row_nats, **options)

    def _bound(self, num_steps: int, grid: str | Sequence[float] | None) -> Bound:
        """Return the formulation's own bound, or that of ``ancestral`` with so many steps."""
        if not num_steps and grid is None:
            return self.formulation.bound
        # A network that is conditioned on the time has seen only the times of its training.
        tied = not self.supports("any_steps") or uses_time(self.denoiser)
        tied = tied and bool(self.formulation.num_steps)
        if num_steps:
            STEPS("num_steps", num_steps)
        if tied and grid is None:
            self.formulation.check_strides(num_steps)
            return self.formulation.in_steps(num_steps)
        times = sampler_grid(self.card.sampler, num_steps or None, grid)
        if tied:
            self.formulation.check_grid(times)
        return self.formulation.in_steps(len(times) - 1, times)

    def score_in_order(
        self,
        text: Any,
        order: str | Sequence[int] = "left-to-right",
        *,
        batch_size: int = 32,
        advance: Advance = lambda rows: None,
    ) -> Score:
        """Return the exact -log p(text) of generating one token at a time in a fixed order.

        An any-order network is called once a row, any other one once a token.

        Args:
            text: As for ``score``.
            order: ``left-to-right``, ``right-to-left``, or the numbers of the tokens of a text of
                one row; see ``objectives.chain_rule.ranks``.
            batch_size: Rows at a time.
            advance: Called with the number of rows done.

        Raises:
            UserError: If there is no such order, or the model does not support it.
        """

        def nats(part: Part) -> Tensor:
            rank = chain_rule.ranks(order, part.editable, part.valid)
            where = {"editable": part.editable, "valid": part.valid}
            return self.formulation.token_nats(self.denoiser, x0=part.rows, rank=rank, **where)

        return self._score(text, nats, kind="exact", batch_size=batch_size, advance=advance)

    def pseudo_score(
        self, text: Any, *, batch_size: int = 32, advance: Advance = lambda rows: None
    ) -> Score:
        """Return the pseudo-log-likelihood of a text: every token given all others in its row.

        It is no likelihood and no bound; see ``objectives.chain_rule.pseudo_token_nats``. The
        arguments are those of ``score_in_order``.

        Raises:
            UserError: If the network does not see all other tokens, or has no masks.
        """
        self.require("pseudo_likelihood")

        def nats(part: Part) -> Tensor:
            process: Any = self.formulation.process
            return chain_rule.pseudo_token_nats(
                self.denoiser, process, part.rows, part.editable, part.valid
            )

        return self._score(text, nats, kind="pseudo", batch_size=batch_size, advance=advance)
