"""What the autoregressive pipelines of texts and of images share: the exact score."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from unmask.evaluation.likelihood import Part
from unmask.evaluation.scores import Score
from unmask.models.causal import next_token_nats
from unmask.pipelines.base import Advance, Pipeline


class CausalPipeline(Pipeline):
    """A causal language model that scores what its codec reads."""

    def score(
        self,
        text: Any,
        *,
        seed: int = 0,
        batch_size: int = 32,
        advance: Advance = lambda rows: None,
    ) -> Score:
        """Return the exact -log p of a text or of images.

        The softmax is over all ids, also those that are no data, which the network learns never to
        predict.

        Args:
            text: A text, which is cut into the rows that the model was trained on; of a model of
                images (N, H, W, C), uint8, or an ``Images``; or rows, see ``rows``.
            seed: For the record; nothing here is random.
            batch_size: Rows at a time.
            advance: Called with the number of rows done.
        """

        def nats(part: Part) -> Tensor:
            return next_token_nats(self.model, part.rows, part.editable)

        options: dict[str, Any] = {"batch_size": batch_size, "seed": seed, "advance": advance}
        return self._score(text, nats, kind="exact", **options)
