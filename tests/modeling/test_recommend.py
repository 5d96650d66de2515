"""What is kept between calls, what is computed in chunks, and the adapter folded into the base."""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from e4srec_hf import SASRecConfig, SASRecModel
from e4srec_hf.evaluation import ranking as evaluation_ranking
from e4srec_hf.modeling import ranking
from e4srec_hf.modeling.reading import KeptInstruction
from e4srec_hf.serving import merge_adapter, unmerge_adapter
from e4srec_hf.serving.merging import lora_layers
from e4srec_hf.training.packed_reading import ReferenceReader
from tests.conftest import BASE_CONFIGS, VOCAB, random_batch, ranks_of


def tokens_run(model):
    """How many rows and tokens each pass of the base gets."""
    shapes = []
    model.base.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(tuple(kwargs["inputs_embeds"].shape[:2])), with_kwargs=True
    )
    return shapes


def afresh(model, ids, mask):
    """Scores of a copy of the model that reads the instruction in each row."""
    other = copy.deepcopy(model)
    other.reader = ReferenceReader()
    return other.recommend(ids, mask, top_k=VOCAB - 2, exclude_seen=False)


def assert_up_to_date(model, ids, mask):
    found = model.recommend(ids, mask, top_k=VOCAB - 2, exclude_seen=False)
    expected = afresh(model, ids, mask)
    scale = float(expected.scores.abs().max())
    tolerance = 1e-5 if expected.scores.dtype == torch.float32 and model.dtype == torch.float32 else 3e-2
    torch.testing.assert_close(found.scores, expected.scores, rtol=tolerance, atol=tolerance * scale)


@pytest.mark.parametrize("kind", list(BASE_CONFIGS))
def test_the_instruction_is_read_once_for_all_batches_of_a_call(kind, make_model):
    model = make_model(kind)
    ids, mask = random_batch()
    whole = model.recommend(ids, mask)
    shapes = tokens_run(model)
    parts = model.recommend(ids, mask, batch_size=2)
    instruction, response = len(model.config.instruction_ids), len(model.config.response_ids)
    n_items = sorted(((ids > 1) & mask.bool()).sum(1).tolist(), reverse=True)
    assert shapes == [(1, instruction), *((len(n_items[i : i + 2]), n_items[i] + response) for i in (0, 2, 4))]
    torch.testing.assert_close(parts.scores, whole.scores, rtol=1e-5, atol=1e-5)
    assert_up_to_date(model, ids, mask)


def test_a_kept_instruction_is_read_once_for_all_calls_in_it_and_not_after_it(make_model):
    model = make_model()
    ids, mask = random_batch()
    outside = model.recommend(ids, mask)
    shapes = tokens_run(model)
    longest = int(((ids > 1) & mask.bool()).sum(1).max()) + len(model.config.response_ids)
    instruction = (1, len(model.config.instruction_ids))
    with model.kept_instruction() as kept:
        inside = [model.recommend(ids, mask) for _ in range(2)]
        with torch.no_grad():
            logits = model(ids, mask).logits
    assert shapes == [instruction, *[(len(ids), longest)] * 3]
    assert all(torch.equal(outside.scores, best.scores) for best in inside)
    shapes.clear()
    with kept:
        model.recommend(ids, mask)
    assert shapes == [(len(ids), longest)]
    shapes.clear()
    with torch.no_grad():
        assert torch.equal(model(ids, mask).logits, logits)
    assert shapes == [instruction, (len(ids), longest)]


def test_kept_instructions_may_be_left_in_any_order(make_model):
    one, other = make_model(), make_model()
    first, second = one.kept_instruction(), other.kept_instruction()
    first.__enter__()
    second.__enter__()
    first.__exit__()
    assert KeptInstruction.of(one) is None
    assert KeptInstruction.of(other) is second
    second.__exit__()
    assert KeptInstruction.of(other) is None


def test_a_kept_instruction_is_that_of_one_model_alone(make_model):
    one, other = make_model(), make_model(instruction="Other: ")
    ids, mask = random_batch()
    expected = other.recommend(ids, mask)
    with one.kept_instruction():
        one.recommend(ids, mask)
        assert torch.equal(other.recommend(ids, mask).scores, expected.scores)
        with other.kept_instruction():
            assert torch.equal(other.recommend(ids, mask).scores, expected.scores)
            assert_up_to_date(one, ids, mask)


def optimizer_step(model):
    model.train()
    ids, mask = random_batch(seed=9)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(ids, mask, labels=ids.masked_fill(mask == 0, -100)).loss.backward()
    optimizer.step()
    model.eval()


def write_through_data(model):
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            parameter.data.mul_(-2)


def load_other_weights(model):
    model.load_state_dict({name: t + 0.1 for name, t in model.state_dict().items() if ".lora_" in name}, strict=False)


def switch_off(model):
    for _, layer in lora_layers(model.base):
        layer.enable_adapters(False)


def change_prompt(model):
    model.instruction_ids.copy_(model.instruction_ids.flip(0))


CHANGES = {
    "training": optimizer_step,
    "writing to .data": write_through_data,
    "loading": load_other_weights,
    "switching LoRA off": switch_off,
    "merging": lambda model: merge_adapter(model),
    "half precision": lambda model: model.base.to(torch.bfloat16),
    "the frozen base": lambda model: nn.init.normal_(model.base.layers[0].self_attn.k_proj.weight),
    "the prompt": change_prompt,
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_nothing_is_kept_between_calls_whatever_changes(change, make_model):
    model = make_model()
    ids, mask = random_batch()
    before = model.recommend(ids, mask, top_k=VOCAB - 2, exclude_seen=False)
    with torch.no_grad() if change != "training" else torch.enable_grad():
        CHANGES[change](model)
    assert_up_to_date(model, ids, mask)
    after = model.recommend(ids, mask, top_k=VOCAB - 2, exclude_seen=False)
    if change != "merging":
        assert not torch.equal(before.scores, after.scores)


def test_training_takes_gradients_through_the_instruction_also_where_it_is_kept(make_model):
    model = make_model(lora={"r": 4, "lora_dropout": 0.0})
    ids, mask = random_batch()
    labels = ids.masked_fill(mask == 0, -100)
    model(ids, mask, labels=labels).loss.backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    with model.kept_instruction():
        model.recommend(ids, mask)
        model(ids, mask, labels=labels).loss.backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], gradient) for name, gradient in expected.items())


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_batches_and_chunks_change_nothing(batch_size, make_model, monkeypatch):
    model = make_model()
    ids, mask = random_batch(rows=9)
    candidates = torch.arange(2, 30).expand(9, -1)
    for arguments in ({}, {"exclude_seen": False}, {"candidates": candidates}):
        whole = model.recommend(ids, mask, top_k=12, **arguments)
        with monkeypatch.context() as patch:
            patch.setattr(ranking, "SCORES_AT_A_TIME", 50)
            parts = model.recommend(ids, mask, top_k=12, batch_size=batch_size, **arguments)
        assert torch.equal(whole.item_ids, parts.item_ids)
        torch.testing.assert_close(whole.scores, parts.scores, rtol=1e-5, atol=1e-5)


def test_never_more_than_a_chunk_of_scores_is_built(make_model, monkeypatch):
    sizes = []
    original = ranking.catalogue_scores
    monkeypatch.setattr(ranking, "SCORES_AT_A_TIME", 40)

    def spy(vectors, catalogue):
        scores = original(vectors, catalogue)
        sizes.append(scores.numel())
        return scores

    monkeypatch.setattr(ranking, "catalogue_scores", spy)
    ids, mask = random_batch(rows=9)
    model = make_model()
    model.recommend(ids, mask, batch_size=4)
    assert max(sizes) <= 40
    assert sum(sizes) == 9 * VOCAB
    monkeypatch.setattr(evaluation_ranking, "SCORES_AT_A_TIME", 2 * VOCAB)
    monkeypatch.setattr(evaluation_ranking, "catalogue_scores", spy)
    sizes.clear()
    ranks_of(model, ids[:4], mask[:4], torch.tensor([3, 4, 5, 6]))
    assert sizes == [2 * VOCAB] * 2


def test_many_histories_are_sorted_by_length_longest_first(make_model):
    model = make_model()
    ids, mask = torch.randint(2, VOCAB, (40, 30)), torch.zeros(40, 30, dtype=torch.long)
    for row in range(40):
        mask[row, 30 - (1 if row % 2 else 29) :] = 1
    model.recommend(ids, mask)
    shapes = tokens_run(model)
    model.recommend(ids, mask, batch_size=20)
    response = len(model.config.response_ids)
    assert shapes[1:] == [(20, 29 + response), (20, 1 + response)]


def test_several_threads_may_ask_at_once(make_model):
    model = make_model()
    batches = [random_batch(rows=3 + seed % 3, width=5 + seed, seed=seed) for seed in range(6)]
    batches = [batch for batch in batches for _ in range(5)]

    def ask(batch):
        return model.recommend(*batch, top_k=9)

    expected = [ask(batch) for batch in batches]
    kept = model.kept_instruction()

    def ask_kept(batch):
        with kept:
            return ask(batch)

    for question in (ask, ask_kept):
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(question, batches))
        for one, other in zip(found, expected, strict=True):
            assert torch.equal(one.item_ids, other.item_ids)
            assert torch.equal(one.scores, other.scores)


def test_no_histories_are_no_recommendations(make_model):
    best = make_model().recommend(torch.zeros(0, 3, dtype=torch.long), top_k=4)
    assert best.scores.shape == best.item_ids.shape == (0, 4)


def test_a_batch_size_below_one_is_refused(make_model):
    with pytest.raises(ValueError, match="batch_size must be at least 1, not 0"):
        make_model().recommend(torch.tensor([[3]]), batch_size=0)


def test_sasrec_ranks_in_chunks_too(monkeypatch):
    torch.manual_seed(0)
    model = SASRecModel(SASRecConfig(vocab_size=VOCAB, hidden_size=8)).eval()
    ids = torch.randint(2, VOCAB, (5, 6))
    whole = model.recommend(ids, top_k=8)
    targets = torch.tensor([2, 3, 4, 5, 6])
    ranks = ranks_of(model, ids, None, targets, exclude_seen=False)
    monkeypatch.setattr(ranking, "SCORES_AT_A_TIME", 17)
    monkeypatch.setattr(evaluation_ranking, "SCORES_AT_A_TIME", 2 * VOCAB)
    assert torch.equal(model.recommend(ids, top_k=8, batch_size=2).item_ids, whole.item_ids)
    assert torch.equal(ranks_of(model, ids, None, targets, exclude_seen=False), ranks)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_merging_gives_the_same_scores_and_unmerging_the_same_bits(kind, make_model):
    model = make_model(kind)
    ids, mask = random_batch()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    scores = model(ids, mask).logits
    merge_adapter(model)
    merge_adapter(model)  # a second time changes nothing
    torch.testing.assert_close(model(ids, mask).logits, scores, rtol=1e-4, atol=1e-5 * float(scores.abs().max()))
    changed = [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])]
    assert changed
    assert all(name.endswith("base_layer.weight") for name in changed)
    unmerge_adapter(model)
    unmerge_adapter(model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(model(ids, mask).logits, scores)


def test_a_merged_model_saves_what_an_unmerged_one_saves_and_is_not_trained(make_model, tmp_path):
    model = make_model()
    model.save_pretrained(tmp_path / "before")
    merge_adapter(model)
    model.save_pretrained(tmp_path / "merged")
    before, merged = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("before", "merged"))
    assert before == merged
    with pytest.raises(
        RuntimeError, match=r"adapter is merged: nothing would train it. Call unmerge_adapter\(model\) first"
    ):
        model.train()(torch.tensor([[3, 4]]), labels=torch.tensor([[3, 4]]))


def test_there_must_be_something_to_merge_and_room_for_it(make_model, base_dir, item_table):
    with pytest.raises(ValueError, match="There is no LoRA to merge"):
        merge_adapter(make_model(tuning="full"))
    with pytest.raises(ValueError, match=r"LoRA with biases of its own \(lora_bias\) cannot be merged"):
        merge_adapter(make_model("gpt2", lora={"r": 4, "lora_bias": True}))
    model = make_model()
    model.base.is_quantized = True
    with pytest.raises(ValueError, match="LoRA cannot be merged into a quantized base"):
        merge_adapter(model)


NO_CANDIDATES = {
    "no dimension": torch.tensor(3),
    "three dimensions": torch.full((1, 1, 2), 3),
    "a set": {3, 4},
    "an iterator": iter([3]),
    "none": [None],
    "text": "ab",
    "ragged": [[3], [4, 5]],
    "too large": [10**30],
    "fractions": [3.5],
    "truth values": [True],
    "complex numbers": [1j],
}


@pytest.mark.parametrize("kind", NO_CANDIDATES)
def test_candidates_that_are_no_item_ids_are_refused(kind, make_model):
    with pytest.raises(ValueError, match="candidates must be item ids"):
        make_model().recommend(torch.tensor([[3, 4]]), candidates=NO_CANDIDATES[kind])
