"""Canaries: one test for each private or version-bound name of a library that ours stands on."""

import ast
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import linear, scaled_dot_product_attention
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    BertConfig,
    DynamicCache,
    LlamaConfig,
    MambaConfig,
    MambaForCausalLM,
    Trainer,
    TrainingArguments,
    ViTConfig,
)
from transformers.utils import logging

import unmask
from checks import generator
from unmask.data.sources import quiet_datasets
from unmask.models import compat
from unmask.models.ordered_attention import attach
from unmask.models.traits import traits_of


def arguments(tmp_path, **options) -> TrainingArguments:
    return TrainingArguments(output_dir=str(tmp_path), use_cpu=True, **options)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_decoder_takes_its_cache_by_the_name_that_is_found(zoo, name):
    model = AutoModelForCausalLM.from_pretrained(zoo / name).eval()
    cache = DynamicCache()
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        model(ids, use_cache=True, **{compat.cache_argument(model): cache})
    assert cache.get_seq_length() == 3


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_cache_forgets_its_last_tokens_and_some_of_its_rows(zoo, name):
    model = AutoModelForCausalLM.from_pretrained(zoo / name).eval()
    ids = torch.tensor([[5, 6, 7, 8], [9, 8, 7, 6]])
    cache, argument = DynamicCache(), compat.cache_argument(model)
    with torch.no_grad():
        model(ids, use_cache=True, **{argument: cache})
        cache.crop(-2)
        cache.batch_select_indices(torch.tensor([1]))
        got = model(torch.tensor([[4]]), use_cache=True, **{argument: cache}).logits
        want = model(torch.tensor([[9, 8, 4]])).logits[:, -1:]
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_the_arguments_of_a_network_are_read_from_its_signature(zoo):
    model = AutoModelForCausalLM.from_pretrained(zoo / "llama")
    assert compat.missing_arguments(model, "position_ids", "no_such_thing") == ["no_such_thing"]


def test_what_a_configuration_can_be_is_known():
    assert compat.lm_heads(BertConfig()) == {"masked", "causal"}
    assert compat.lm_heads(LlamaConfig()) == {"causal"}
    assert compat.lm_heads(ViTConfig()) == set()
    assert compat.can_classify(BertConfig())
    assert not compat.can_classify(ViTConfig())


def test_the_architectures_with_masks_are_listed():
    known = compat.masked_types()
    assert {"bert", "modernbert", "roberta"} <= set(known)
    assert "llama" not in known
    assert known == sorted(known)


def test_the_lookups_of_a_network_can_be_watched(zoo):
    """A table of positions is found by what is read of it, and a text part by its configuration."""
    model = AutoModelForMaskedLM.from_pretrained(zoo / "roberta").eval()
    assert traits_of(model).first == 2
    assert model.config.get_text_config().max_position_embeddings == 66


def test_a_model_with_code_of_its_own_is_told_from_others(tmp_path):
    config = {"model_type": "own", "auto_map": {"AutoConfig": "own.Own"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="custom code") as refused:
        AutoConfig.from_pretrained(tmp_path, trust_remote_code=False)
    assert compat.wants_own_code(refused.value)
    assert not compat.wants_own_code(ValueError("it is damaged"))


def test_a_model_is_found_inside_its_wrappers():
    model = nn.Linear(2, 2)
    assert compat.wrapped_in(torch.compile(model)) is model
    assert compat.wrapped_in(nn.DataParallel(model)) is model
    assert compat.wrapped_in(model) is None


def test_the_attention_of_a_model_has_a_name(zoo):
    model = AutoModelForMaskedLM.from_pretrained(zoo / "bert", attn_implementation="eager")
    assert compat.attention_of(model) == "eager"
    model.set_attn_implementation("sdpa")
    assert compat.attention_of(model) == "sdpa"


def test_which_networks_let_their_attention_be_replaced_is_known(zoo):
    assert compat.lets_attention_be_replaced(AutoModelForMaskedLM.from_pretrained(zoo / "bert"))
    without = MambaForCausalLM(MambaConfig(hidden_size=8, num_hidden_layers=1, vocab_size=8))
    assert not compat.lets_attention_be_replaced(without)


def test_the_attention_that_is_borrowed_follows_any_mask():
    query, key, value = torch.randn(3, 2, 4, 5, 8, generator=generator(0))
    allowed = torch.rand(2, 1, 5, 5, generator=generator(1)) < 0.5
    allowed |= torch.eye(5, dtype=torch.bool)
    layer = nn.Module()
    layer.is_causal = False
    got, _ = compat.sdpa_attention_forward(layer, query, key, value, allowed)
    want = scaled_dot_product_attention(query, key, value, allowed).transpose(1, 2)
    torch.testing.assert_close(got, want)


def test_a_mask_is_made_for_an_attention_of_our_own(zoo):
    """The library makes it, by the function that is registered under the attention's name."""
    ids = torch.tensor([[2, 5, 6, 7, 8, 3]])
    mask = torch.tensor([[1, 1, 1, 1, 0, 0]])
    model = AutoModelForMaskedLM.from_pretrained(zoo / "modernbert").eval()
    with torch.no_grad():
        want = model(input_ids=ids, attention_mask=mask).logits[:, :4]
        attach(model)
        got = model(input_ids=ids, attention_mask=mask).logits[:, :4]
    assert callable(compat.sdpa_mask)
    torch.testing.assert_close(got, want)


def test_a_file_of_a_model_on_the_hub_comes_from_the_cache(tmp_path):
    """In a process of its own, since the library reads where its cache is only once."""
    model = tmp_path / "hub" / "models--someone--something"
    snapshot = model / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    snapshot.mkdir(parents=True)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(snapshot.name)
    (snapshot / "unmask.json").write_text("{}")
    script = (
        "import json; from unmask.models.compat import fetched\n"
        "asked = [('someone/something', 'unmask.json'), ('someone/something', 'other.json'),"
        " ('no/body', 'unmask.json')]\n"
        "print(json.dumps([str(fetched(*names) or '') for names in asked]))"
    )
    there = os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    there.pop("HF_HUB_CACHE", None)
    done = subprocess.run(
        [sys.executable, "-c", script], env=there, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [str(snapshot / "unmask.json"), "", ""]


def test_schedules_and_optimisers_have_the_names_that_recipes_use():
    assert {"linear", "constant_with_warmup", "cosine"} <= set(compat.schedule_names())
    assert "reduce_lr_on_plateau" not in compat.schedule_names()
    assert {"adamw_torch", "adamw_torch_fused"} <= set(compat.optimizer_names())


def test_a_service_to_report_to_is_found_by_its_name(tmp_path):
    assert compat.reporters(arguments(tmp_path, report_to="none")) == []
    (found,) = compat.reporters(arguments(tmp_path, report_to="tensorboard"))
    assert found.__name__ == "TensorBoardCallback"
    with pytest.raises(ValueError, match="nowhere"):
        compat.reporters(arguments(tmp_path, report_to="nowhere"))


def test_rows_are_not_split_over_gpus(tmp_path):
    several = arguments(tmp_path, per_device_train_batch_size=8)
    several._n_gpu = 3
    assert several.train_batch_size == 24
    compat.use_one_gpu(several)
    assert several.train_batch_size == 8


def test_the_trainer_has_the_names_that_ours_overrides_and_sets(zoo, tmp_path):
    assert list(inspect.signature(Trainer._save_checkpoint).parameters) == [
        "self",
        "model",
        "trial",
    ]
    model = AutoModelForMaskedLM.from_pretrained(zoo / "bert")
    trainer = Trainer(model=model, args=arguments(tmp_path, report_to="none"))
    assert isinstance(trainer.model_accepts_loss_kwargs, bool)


def test_a_trainer_takes_the_weights_of_a_checkpoint(zoo, tmp_path):
    model = AutoModelForMaskedLM.from_pretrained(zoo / "bert")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    trainer = Trainer(model=model, args=arguments(tmp_path, report_to="none"))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    compat.load_weights(trainer, zoo / "bert")
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_the_processor_says_what_it_can():
    known = torch.cpu.get_capabilities()
    assert "architecture" in known
    assert isinstance(compat.computes_bfloat16(), bool)
    if known["architecture"] == "x86_64":
        assert {"avx512_bf16", "amx_tile"} <= set(known)


def test_what_is_traced_is_told_from_what_is_computed():
    seen = []

    def note(x):
        seen.append(compat.is_traced())
        return x + 1

    x = torch.ones(2)
    note(x)
    torch.jit.trace(note, (x,), check_trace=False)
    torch.compile(note, backend="eager")(x)
    assert seen[:2] == [False, True]
    assert seen[-1] is True


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
def test_packed_products_are_products():
    assert compat.can_pack()
    x, weight = torch.randn(6, 32, generator=generator(0)), torch.randn(8, 32)
    packed, bias = compat.packed_weight(weight), torch.randn(8)
    for b in (bias, None):
        got = compat.packed_product(x, packed, b)
        torch.testing.assert_close(got, linear(x, weight, b), rtol=1e-4, atol=1e-4)


def test_products_of_bytes_are_exact():
    x, weight = (torch.randint(-127, 128, (n, 64), generator=generator(n)) for n in (20, 24))
    got = compat.product_of_int8(x.to(torch.int8), weight.to(torch.int8))
    assert got.tolist() == (x @ weight.T).tolist()


def test_a_change_of_a_tensor_is_noticed():
    x = torch.zeros(3)
    before = compat.version_of(x)
    assert compat.version_of(x) == before
    x += 1
    assert compat.version_of(x) > before


def test_bars_of_transformers_are_switched_and_put_back():
    before = compat.set_bars(False)
    assert compat.set_bars(True) is False
    assert compat.set_bars(before) is True
    assert logging.is_progress_bar_enabled() is before


def test_the_libraries_are_quiet():
    datasets = pytest.importorskip("datasets")
    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    compat.quiet_transformers()
    quiet_datasets(datasets)
    try:
        assert not logging.is_progress_bar_enabled()
        assert logging.get_verbosity() == logging.ERROR
        assert datasets.are_progress_bars_disabled()
        assert datasets.logging.get_verbosity() == datasets.logging.CRITICAL
    finally:
        compat.set_bars(bars)
        logging.set_verbosity(level)


# --- nowhere else ---

OWN = {"_replace", "_save_checkpoint"}
"""A method of named tuples, which is public, and the one that the trainer overrides."""


def borrowed(tree: ast.Module) -> set[str]:
    """Return the private names of other objects, and the inner modules of libraries, in a file."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            inner = node.module.startswith(("transformers.", "datasets.", "torch._"))
            found |= {node.module} if inner else set()
        elif isinstance(node, ast.Attribute):
            of = node.value.id if isinstance(node.value, ast.Name) else ""
            private = node.attr.startswith("_") and not node.attr.endswith("__")
            if (private and of not in ("self", "cls")) or (of, node.attr) == ("torch", "ops"):
                found.add(node.attr)
    return found - OWN


def test_private_names_of_libraries_stand_in_one_module_only():
    package = Path(unmask.__file__).parent
    assert {"_orig_mod", "_n_gpu", "ops", "transformers.pytorch_utils"} <= borrowed(
        ast.parse("from transformers.pytorch_utils import x\na._orig_mod, a.b._n_gpu, torch.ops.c")
    )
    for path in package.rglob("*.py"):
        if path.name != "compat.py":
            assert not borrowed(ast.parse(path.read_text(encoding="utf-8"))), path


def test_masks_do_not_scale_what_is_visible(tmp_path):
    from transformers import EsmConfig, EsmForMaskedLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = EsmConfig(
        vocab_size=12,
        mask_token_id=11,
        pad_token_id=1,
        intermediate_size=16,
        position_embedding_type="rotary",
        token_dropout=True,
        **sizes,
    )
    model = EsmForMaskedLM(config).eval()
    embeddings = model.base_model.embeddings
    known = {}
    embeddings.register_forward_hook(lambda _module, _args, output: known.update(last=output))
    ids = torch.full((1, 100), 11)
    ids[0, 0] = 5
    model(input_ids=ids)
    plain = embeddings.word_embeddings.weight[5]
    assert torch.allclose(known["last"][0, 0], 88 * plain), "what the library does"
    compat.switch_token_dropout_off(model)
    compat.switch_token_dropout_off(model)
    model(input_ids=ids)
    assert torch.allclose(known["last"][0, 0], plain)
    assert not known["last"][0, 1:].any()
    assert model(input_ids=torch.full((1, 4), 11)).logits.isfinite().all()
    model.save_pretrained(tmp_path)
    assert EsmForMaskedLM.from_pretrained(tmp_path).config.token_dropout is True
