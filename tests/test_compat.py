"""Canaries: one test for each private or version-bound name of a library that ours stands on."""

import pytest
import torch
from transformers import AutoModelForCausalLM, DynamicCache

from unmask.adapters import compat


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_decoder_takes_its_cache_by_the_name_that_is_found(zoo, name):
    model = AutoModelForCausalLM.from_pretrained(zoo / name).eval()
    cache = DynamicCache()
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        model(ids, use_cache=True, **{compat.cache_argument(model): cache})
    assert cache.get_seq_length() == 3
