"""What must not matter to a bound: in which order positions come, and how few bits a CPU keeps."""

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

from checks import generator
from unmask.diffusion.denoiser import masked_cross_entropy
from unmask.models.encoder import EncoderDenoiser
from unmask.pipelines.unmasker import Unmasker

PROSE = """The river rises in the hills north of the town and runs south for some forty miles before
it meets the sea. In 1872 a bridge was built over it, and the first train crossed in the spring of
the next year. The village grew into a town within ten years; its church, of grey stone, was
finished in 1889 and is now a museum. During the war the bridge was destroyed twice and built again.
"""


def test_without_positions_the_order_of_a_row_does_not_matter():
    torch.manual_seed(0)
    model = BertForMaskedLM(
        BertConfig(
            vocab_size=9,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=12,
            initializer_range=0.3,
        )
    )
    model.double().eval()
    denoiser = EncoderDenoiser(model, [8])
    rng = generator(0)
    x0 = torch.randint(8, (6, 12), generator=rng)
    masked = torch.rand(x0.shape, generator=rng) < 0.5
    order = torch.rand(x0.shape, generator=rng).argsort(1)

    def surprise(x0, masked):
        xt = x0.masked_fill(masked, 8)
        return masked_cross_entropy(denoiser, xt, torch.full((6,), 0.5), x0, masked)

    def change():
        permuted = surprise(x0.gather(1, order), masked.gather(1, order))
        return (permuted - surprise(x0, masked)).abs().max().item()

    with torch.no_grad():
        # With its positions the network tells the orders apart, so the comparison means something.
        assert change() > 1e-3
        model.bert.embeddings.position_embeddings.weight.zero_()
        assert change() < 1e-9


def test_the_bound_in_bfloat16_is_that_of_float32():
    writer = Unmasker.from_pretrained()
    single = writer.score(PROSE, draws=8, seed=0)
    with torch.autocast("cpu", torch.bfloat16):
        half = writer.score(PROSE, draws=8, seed=0)
    assert half.nats != single.nats
    # The same masks, so all that differs is rounding.
    assert half.nats == pytest.approx(single.nats, rel=5e-3)
