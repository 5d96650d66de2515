"""Reading a history once for all its targets, against one row a target: the same numbers, and how it is told."""

import logging

import pytest
import torch
from transformers import (
    BertConfig,
    BertModel,
    BloomConfig,
    BloomModel,
    GPTNeoConfig,
    GPTNeoModel,
    MambaConfig,
    MambaModel,
    Qwen3NextConfig,
    Qwen3NextModel,
)

from e4srec_hf.training import prepare_for_training
from e4srec_hf.training.packed_reading import ReferenceReader, check_packing, is_causal, packing_of
from tests.conftest import BASE_CONFIGS, random_batch

NO_DROPOUT = {"r": 4, "lora_dropout": 0.0}


@pytest.fixture
def make_model(make_model):
    """Models that read packed."""
    return lambda *args, **config: prepare_for_training(make_model(*args, **config))


def random_targets(ids, mask, seed=0):
    """Labels with -100 strewn in, on a whole row too."""
    generator = torch.Generator().manual_seed(seed)
    labels = ids.masked_fill((mask == 0) | (torch.rand(ids.shape, generator=generator) < 0.2), -100)
    labels[3] = -100
    return labels


def rows_run(model):
    """How many rows each pass of the base gets."""
    rows = []
    model.base.register_forward_pre_hook(
        lambda module, args, kwargs: rows.append(len(kwargs["inputs_embeds"])), with_kwargs=True
    )
    return rows


def both_ways(model, ids, mask, labels):
    """Output and gradients, packed and with one row a target."""
    results = []
    packed = model.reader
    for reader in (packed, ReferenceReader()):
        model.reader = reader
        model.zero_grad()
        output = model(ids, mask, labels=labels)
        output.loss.backward()
        results.append((output, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}))
    model.reader = packed
    return results


def assert_equal_ways(model, ids, mask, labels):
    (packed, gradients), (plain, expected) = both_ways(model, ids, mask, labels)
    torch.testing.assert_close(packed.loss, plain.loss, rtol=1e-5, atol=0)
    if plain.logits is not None:
        torch.testing.assert_close(packed.logits, plain.logits, rtol=1e-5, atol=1e-5)
    assert_equal_gradients(gradients, expected)


def assert_equal_gradients(found, expected):
    """Relative to the largest entry of each tensor, down to what float32 leaves of a gradient that is zero."""
    assert found.keys() == expected.keys()
    noise = 1e-7 * max(float(gradient.abs().max()) for gradient in expected.values())
    for name, gradient in expected.items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-5 * scale + noise, msg=name)


@pytest.mark.parametrize("head", ["linear", "tied"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", list(BASE_CONFIGS))
@pytest.mark.parametrize("seed", [0, 1])
def test_loss_logits_and_gradients_are_those_of_one_row_a_target(kind, attention, head, seed, make_base, make_model):
    model = make_model(make_base(kind, attn_implementation=attention), head=head, lora=NO_DROPOUT)
    ids, mask = random_batch(rows=6, width=14, seed=seed)
    labels = random_targets(ids, mask, seed)
    rows = rows_run(model)
    assert packing_of(model).passed
    model(ids, mask, labels=labels)  # probes what else there is to probe
    rows.clear()
    assert_equal_ways(model, ids, mask, labels)
    with_target = int((labels > 1).any(dim=1).sum())
    assert rows[:2] == [1, with_target]  # the instruction alone, then the rows
    assert sum(rows[2:]) == int((labels > 1).sum())  # the other way


@pytest.mark.parametrize("settings", [{"instruction": ""}, {"response": ""}, {"max_history": 4}], ids=str)
@pytest.mark.parametrize("kind", list(BASE_CONFIGS))
def test_the_same_without_instruction_without_response_and_with_short_windows(kind, settings, make_model):
    model = make_model(kind, lora=NO_DROPOUT, **settings)
    ids, mask = random_batch(rows=6, width=14, seed=3)
    assert_equal_ways(model, ids, mask, random_targets(ids, mask))


@pytest.mark.parametrize("window", [5, 8, 500])
@pytest.mark.parametrize("kind", ["mistral", "gemma3"])
def test_sliding_windows_shorter_and_longer_than_the_row_are_exact(kind, window, make_base, make_model):
    model = make_model(make_base(kind, sliding_window=window), lora=NO_DROPOUT)
    ids, mask = random_batch(rows=6, width=14, seed=4)
    assert packing_of(model).passed
    assert_equal_ways(model, ids, mask, random_targets(ids, mask))


def test_layers_with_and_without_a_window_in_one_base(make_base, make_model):
    base = make_base("qwen2", use_sliding_window=True, sliding_window=6, max_window_layers=1, num_hidden_layers=3)
    assert set(base.config.layer_types) == {"full_attention", "sliding_attention"}
    model = make_model(base, lora=NO_DROPOUT)
    ids, mask = random_batch(rows=6, width=14, seed=5)
    assert packing_of(model).passed
    assert_equal_ways(model, ids, mask, random_targets(ids, mask))


def test_a_long_row_makes_a_segment_for_the_first_targets_and_one_for_each_later(make_model):
    model = make_model(max_history=4, lora=NO_DROPOUT)
    ids = torch.arange(2, 12).unsqueeze(0)
    rows = rows_run(model)
    model(ids, labels=ids)  # probes
    rows.clear()
    model(ids, labels=ids)
    assert rows == [1, 1 + 5]  # targets behind 0 to 4 items share a row; 5 to 9 start at items of their own


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("kind", list(BASE_CONFIGS))
def test_gradient_checkpointing_does_without_the_shared_instruction_and_gives_equal_gradients(kind, full, make_model):
    settings = {"tuning": "full"} if full else {"lora": NO_DROPOUT}
    model = make_model(kind, **settings).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "dropout", None), float):  # OPT
            module.dropout = 0.0
    ids, mask = random_batch(rows=6, width=14, seed=6)
    labels = random_targets(ids, mask)
    (_, expected), _ = both_ways(model, ids, mask, labels)
    model.gradient_checkpointing_enable()
    rows = rows_run(model)
    output = model(ids, mask, labels=labels)
    assert rows[0] > 1  # no row for the instruction
    model.zero_grad()
    output.loss.backward()
    assert_equal_gradients({name: model.get_parameter(name).grad for name in expected}, expected)


def other_base(kind, vocab_size):
    torch.manual_seed(0)
    if kind == "bloom":
        config = BloomConfig(vocab_size=vocab_size, hidden_size=32, n_layer=2, n_head=4)
        return BloomModel(config).eval()
    if kind == "mamba":
        config = MambaConfig(vocab_size=vocab_size, hidden_size=32, num_hidden_layers=2, state_size=4)
        return MambaModel(config).eval()
    if kind == "qwen3_next":  # one layer of linear attention, one of full attention
        config = Qwen3NextConfig(
            vocab_size=vocab_size,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            linear_num_key_heads=2,
            linear_num_value_heads=4,
            linear_key_head_dim=8,
            linear_value_head_dim=8,
            layer_types=["linear_attention", "full_attention"],
            num_experts=0,
            mlp_only_layers=[0, 1],
        )
        return Qwen3NextModel(config).eval()
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    return BertModel(BertConfig(vocab_size=vocab_size, **shape), add_pooling_layer=False).eval()


REASONS = {
    "bloom": "BloomModel",
    "bert": "BertModel looks ahead",
    "mamba": "MambaModel",
    "qwen3_next": "Qwen3NextModel",
}
LORA = {  # PEFT refuses the others
    "mamba": {"target_modules": ["in_proj", "x_proj"]},
    "qwen3_next": {"target_modules": ["in_proj_qkvz", "q_proj"]},
}


@pytest.mark.parametrize("response", [" Next:", ""])
@pytest.mark.parametrize("kind", list(REASONS))
def test_a_base_that_cannot_share_falls_back_with_one_warning_and_stays_right(
    kind, response, make_model, text_tokenizer, caplog, propagating
):
    model = make_model(other_base(kind, len(text_tokenizer)), response=response, lora=NO_DROPOUT | LORA.get(kind, {}))
    ids, mask = random_batch(rows=6, width=10, seed=7)
    labels = random_targets(ids, mask)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            output = model(ids, mask, labels=labels)
    warnings = [record.message for record in caplog.records if "takes much longer" in record.message]
    verdict = packing_of(model)
    assert verdict.passed == (kind != "bert" and not response)  # nothing behind the items: looking back is enough
    assert len(warnings) == (not verdict.passed)
    if warnings:
        assert verdict.reason.startswith(REASONS[kind])
        assert verdict.reason in warnings[0]
    assert_equal_ways(model, ids, mask, labels)
    model.reader = ReferenceReader()  # alone, each target gives the same
    expected = []
    for row in range(len(ids)):
        for column in range(ids.shape[1]):
            if labels[row, column] > 1:
                before = mask[row : row + 1].clone()
                before[:, column:] = 0
                expected.append(model(ids[row : row + 1], before).logits[0])
    torch.testing.assert_close(output.logits, torch.stack(expected), rtol=1e-5, atol=1e-5)


def test_flash_attention_is_not_even_tried_with_a_response(make_model, monkeypatch):
    model = make_model()
    monkeypatch.setattr(model.base.config, "_attn_implementation_internal", "flash_attention_2")
    monkeypatch.setattr(
        "e4srec_hf.training.packed_reading.is_causal", lambda base: True
    )  # flash attention is not installed
    verdict = check_packing(model.base, *model.reading_task().prompt, 4, 5, shared=False)
    assert not verdict.passed
    assert verdict.reason.startswith("flash attention takes no mask of its own")


@pytest.mark.parametrize("kind", list(BASE_CONFIGS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_decoders_pass_in_every_precision_and_the_random_state_is_left_alone(kind, dtype, make_base, make_model):
    base = make_base(kind).to(dtype)
    assert is_causal(base)
    model = make_model(base)
    random_state = torch.get_rng_state()
    assert packing_of(model).passed, packing_of(model).reason
    assert torch.equal(torch.get_rng_state(), random_state)


@pytest.mark.parametrize("kind", list(REASONS))
def test_others_fail_in_half_precision_too(kind, make_model, text_tokenizer):
    model = make_model(other_base(kind, len(text_tokenizer)).to(torch.bfloat16), lora={"r": 4} | LORA.get(kind, {}))
    assert not packing_of(model).passed


def test_a_longer_history_is_probed_before_it_is_relied_on(make_model):
    model = make_model(max_history=300)
    assert packing_of(model).n_items == 64
    ids = torch.randint(2, 32, (1, 100))
    model(ids, labels=ids)
    assert packing_of(model).n_items == 128


@pytest.mark.parametrize("window", [60, 256])
def test_a_base_that_goes_by_the_place_in_a_row_is_found_out_on_rows_as_wide_as_they_get(window, make_model):
    """GPT-Neo's local attention counts slots, so copies far behind their items fall out of its window."""
    torch.manual_seed(0)
    config = GPTNeoConfig(
        vocab_size=400,
        hidden_size=32,
        num_layers=2,
        num_heads=4,
        attention_types=[[["global", "local"], 1]],
        window_size=window,
        max_position_embeddings=512,
    )
    base = GPTNeoModel(config).eval()
    with torch.no_grad():
        for parameter in base.parameters():
            if parameter.dim() == 2:
                parameter.mul_(5)
    model = make_model(base, max_history=100, lora=NO_DROPOUT)
    ids = torch.randint(2, 32, (2, 100), generator=torch.Generator().manual_seed(0))
    assert_equal_ways(model, ids, None, ids)
    assert not packing_of(model).passed
    assert packing_of(model).n_targets >= 101


def test_a_row_with_more_targets_than_items_is_probed_too(make_model):
    model = make_model(max_history=3, lora=NO_DROPOUT)
    assert packing_of(model).n_targets == 4
    ids, mask = torch.randint(2, 32, (1, 9)), torch.zeros(1, 9, dtype=torch.long)
    mask[0, :2] = 1  # seven targets behind the same two items
    assert_equal_ways(model, ids, mask, ids)
    assert packing_of(model).n_targets == 9


@pytest.mark.parametrize("kind", ["gpt2", "opt"])
def test_a_base_with_few_positions_is_not_probed_beyond_them(kind, make_base, make_model):
    places = 24
    limit = {"n_positions": places} if kind == "gpt2" else {"max_position_embeddings": places}
    model = make_model(make_base(kind, **limit), lora=NO_DROPOUT)
    assert packing_of(model).passed
    prompt = len(model.config.instruction_ids) + len(model.config.response_ids)
    assert packing_of(model).n_items == places - prompt
    ids = torch.randint(2, 32, (3, 5))
    assert_equal_ways(model, ids, None, ids)


def test_a_verdict_on_wider_rows_still_says_what_the_one_before_said(make_model):
    model = make_model(max_history=300)
    long = torch.randint(2, 32, (1, 100))
    many, mask = torch.randint(2, 32, (1, 150)), torch.zeros(1, 150, dtype=torch.long)
    mask[0, :10] = 1
    for _ in range(2):
        model(long, labels=long)
        model(many, mask, labels=many)
    rows = rows_run(model)
    model(long, labels=long)
    model(many, mask, labels=many)
    assert rows == [1, 1, 1, 1]  # instruction and row, no probe


def test_memory_that_runs_out_is_not_taken_for_a_base_that_cannot(make_model):
    def out_of_memory(module, args, kwargs):
        raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")

    model = make_model()
    model.base.register_forward_pre_hook(
        lambda *passed: out_of_memory(*passed) if "past_key_values" in passed[2] else None, with_kwargs=True
    )
    with pytest.raises(RuntimeError, match="CUBLAS_STATUS_ALLOC_FAILED"):
        _ = packing_of(model)


def test_training_gives_no_logits_and_the_loss_of_evaluation(make_model):
    model = make_model(lora=NO_DROPOUT)
    ids, mask = random_batch()
    labels = random_targets(ids, mask)
    evaluated = model(ids, mask, labels=labels)
    trained = model.train()(ids, mask, labels=labels)
    assert trained.logits is None
    torch.testing.assert_close(trained.loss, evaluated.loss, rtol=1e-5, atol=0)


def test_the_probe_takes_the_precision_that_the_trainer_sets(make_model):
    before = torch.backends.fp32_precision
    torch.backends.fp32_precision = "tf32"
    try:
        assert packing_of(make_model()).passed
    finally:
        torch.backends.fp32_precision = before


def test_the_probe_leaves_each_part_in_the_mode_it_was_in(make_model):
    model = make_model().train()
    model.base.layers[0].eval()
    modes = {name: module.training for name, module in model.named_modules()}
    ids = torch.tensor([[3, 4, 5]])
    model(ids, labels=ids)
    model.recommend(ids)
    assert {name: module.training for name, module in model.named_modules()} == modes


@pytest.mark.parametrize("prompt", [{}, {"response": ""}, {"instruction": ""}], ids=str)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_without_targets_everything_that_is_trained_still_has_a_gradient(checkpointing, prompt, make_model):
    model = make_model(**prompt).train()
    if checkpointing:
        model.gradient_checkpointing_enable()
    ids = torch.tensor([[3, 4]])
    for labels in (torch.full_like(ids, -100), torch.tensor([[3, -100]])):
        model.zero_grad()
        model(ids, labels=labels, num_items_in_batch=1).loss.backward()
        for name, parameter in model.named_parameters():
            assert not parameter.requires_grad or parameter.grad is not None, name


def test_no_targets_in_all_accumulated_batches_are_a_loss_of_zero(make_model):
    model = make_model().train()
    ids = torch.tensor([[3, 4]])
    loss = model(ids, labels=torch.full_like(ids, -100), num_items_in_batch=torch.tensor(0)).loss
    loss.backward()
    assert loss == 0
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
