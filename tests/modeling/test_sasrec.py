"""SASRec against a plain computation, one position at a time."""

import math

import pytest
import torch
from torch.nn import functional as F

from e4srec_hf import SASRecConfig, SASRecModel
from e4srec_hf.training import prepare_for_training
from e4srec_hf.training.losses import sample_unseen
from tests.conftest import VOCAB, random_batch


def make_sasrec(**config):
    torch.manual_seed(3)
    model = SASRecModel(SASRecConfig(**{"vocab_size": VOCAB, "hidden_size": 16, "num_attention_heads": 2} | config))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


def plain_states(model, history):
    """The state behind each item of one history, with explicit loops over heads and positions."""
    p = dict(model.named_parameters())
    width, heads = model.config.hidden_size, model.config.num_attention_heads
    size = width // heads
    x = [
        math.sqrt(width) * p["item_embeddings.weight"][i] + p["position_embeddings.weight"][t]
        for t, i in enumerate(history)
    ]

    def norm(v, name):
        return F.layer_norm(v, (width,), p[f"{name}.weight"], p[f"{name}.bias"])

    def linear(v, name):
        return p[f"{name}.weight"] @ v + p[f"{name}.bias"]

    for block in range(model.config.num_hidden_layers):
        name = f"blocks.{block}"
        qkv = [linear(norm(v, f"{name}.attention_norm"), f"{name}.query_key_value") for v in x]
        mixed = []
        for t in range(len(x)):
            out = []
            for head in range(heads):
                cut = slice(head * size, (head + 1) * size)
                weights = torch.stack([qkv[t][:width][cut] @ qkv[s][width : 2 * width][cut] for s in range(t + 1)])
                weights = (weights / math.sqrt(size)).softmax(0)
                out.append(sum(weights[s] * qkv[s][2 * width :][cut] for s in range(t + 1)))
            mixed.append(torch.cat(out))
        x = [v + linear(m, f"{name}.attention_output") for v, m in zip(x, mixed, strict=True)]
        x = [
            v
            + linear(
                linear(norm(v, f"{name}.feed_forward_norm"), f"{name}.feed_forward.0").relu(), f"{name}.feed_forward.3"
            )
            for v in x
        ]
    return [norm(v, "norm") for v in x]


def plain_targets(model, ids, mask, labels):
    scores, targets = [], []
    for row in range(len(ids)):
        for column in range(ids.shape[1]):
            before = [int(ids[row, c]) for c in range(column) if mask[row, c] and ids[row, c] > 1]
            if labels[row, column] >= 2 and before:
                state = plain_states(model, before[-model.config.max_history :])[-1]
                scores.append(model.item_embeddings.weight @ state)
                targets.append(int(labels[row, column]))
    return torch.stack(scores), torch.tensor(targets)


@pytest.mark.parametrize("max_history", [3, 50])  # shorter than the rows: each target has a window of its own
def test_target_logits_and_loss_equal_a_plain_computation(max_history):
    model = make_sasrec(max_history=max_history)
    ids, mask = random_batch()
    labels = ids.masked_fill(mask == 0, -100)
    labels[3, -1] = -100
    with torch.no_grad():
        output = model(ids, mask, labels=labels)
        scores, targets = plain_targets(model, ids, mask, labels)
    torch.testing.assert_close(output.logits, scores, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(output.loss, F.cross_entropy(scores, targets), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("max_history", [3, 50])
def test_the_next_item_is_scored_after_the_whole_history(max_history):
    model = make_sasrec(max_history=max_history)
    ids = torch.tensor([[0, 0, 7, 1, 9], [4, 5, 6, 8, 11]])
    with torch.no_grad():
        logits = model(ids).logits
        for row, history in enumerate(([7, 9], [4, 5, 6, 8, 11][-max_history:])):
            expected = model.item_embeddings.weight @ plain_states(model, history)[-1]
            torch.testing.assert_close(logits[row], expected, rtol=1e-5, atol=1e-5)


def test_a_history_without_known_items_cannot_be_scored():
    with pytest.raises(ValueError, match="Row 1 has no known item, and there is no prompt"):
        make_sasrec()(torch.tensor([[3, 4], [0, 1]]))


def test_a_history_scores_the_same_alone_and_in_any_batch():
    model = make_sasrec()
    ids, mask = random_batch()
    ids[1, -3:], mask[1, -3:] = torch.tensor([7, 8, 9]), 1
    torch.testing.assert_close(
        model(ids, mask).logits[1:2], model(torch.tensor([[7, 8, 9]])).logits, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("kind", ["bce", "sampled_softmax"])
def test_a_sampled_loss_equals_a_loop_over_the_sampled_negatives(kind):
    model = prepare_for_training(make_sasrec(loss=kind, num_negatives=2)).train()
    model.config.dropout = 0.0
    for module in model.modules():
        if hasattr(module, "p"):
            module.p = 0.0
        if hasattr(module, "dropout") and isinstance(module.dropout, float):
            module.dropout = 0.0
    ids, mask = random_batch()
    labels = ids.masked_fill(mask == 0, -100)
    scores, targets = plain_targets(model, ids, mask, labels)
    rows = [
        row
        for row in range(len(ids))
        for column in range(ids.shape[1])
        if labels[row, column] >= 2 and any(mask[row, c] and ids[row, c] > 1 for c in range(column))
    ]
    torch.manual_seed(11)
    loss = model(ids, mask, labels=labels).loss
    torch.manual_seed(11)
    negatives = sample_unseen((ids * mask)[rows], VOCAB, 2)
    expected = 0.0
    for target, score, drawn in zip(targets, scores, negatives, strict=True):
        if kind == "bce":
            expected += -torch.log(torch.sigmoid(score[target]))
            expected += sum(-torch.log(1 - torch.sigmoid(score[item])) for item in drawn) / 2
        else:
            expected += torch.log(score[target].exp() + sum(score[item].exp() for item in drawn)) - score[target]
    torch.testing.assert_close(loss, expected / len(targets), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["bce", "sampled_softmax"])
def test_a_loss_of_the_library_is_missed_in_training_alone(kind):
    model = make_sasrec(loss=kind)
    ids, mask = random_batch()
    labels = ids.masked_fill(mask == 0, -100)
    output = model.eval()(ids, mask, labels=labels)
    assert output.loss is None
    assert torch.equal(
        output.logits, prepare_for_training(make_sasrec(loss=kind).eval())(ids, mask, labels=labels).logits
    )
    with pytest.raises(RuntimeError, match=r"call prepare_for_training\(model\)"):
        make_sasrec(loss=kind).train()(ids, mask, labels=labels)


def test_negatives_are_drawn_evenly_from_the_unseen_items():
    seen = torch.tensor([[5, 2, 5, 0, 9], [3, 4, 6, 1, 10]]).repeat_interleave(20_000, 0)
    torch.manual_seed(0)
    drawn = sample_unseen(seen, 11, 1).view(2, -1)
    for row, unseen in zip(drawn, ([3, 4, 6, 7, 8, 10], [2, 5, 7, 8, 9]), strict=True):
        counts = torch.bincount(row, minlength=11).float() / row.numel()
        assert counts.nonzero().flatten().tolist() == unseen
        torch.testing.assert_close(counts[unseen], torch.full((len(unseen),), 1 / len(unseen)), atol=0.015, rtol=0)


def test_a_row_with_the_whole_catalogue_leaves_no_negative():
    with pytest.raises(ValueError, match="holds every item of the catalogue"):
        sample_unseen(torch.tensor([[2, 3, 4]]), 5, 1)


def test_a_saved_sasrec_scores_bit_for_bit_the_same(tmp_path):
    model = make_sasrec()
    model.save_pretrained(tmp_path / "sasrec")
    loaded = SASRecModel.from_pretrained(tmp_path / "sasrec")
    ids = torch.tensor([[3, 4, 5]])
    assert torch.equal(loaded(ids).logits, model(ids).logits)
    assert not loaded.training


def test_a_saved_sasrec_that_lacks_a_tensor_is_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    make_sasrec().save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["surplus"] = weights.pop("norm.bias")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"missing: norm.bias\n  surplus: surplus"):
        SASRecModel.from_pretrained(tmp_path)


def test_a_pickled_sasrec_is_never_read(tmp_path):
    model = make_sasrec()
    model.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(OSError, match=r"model\.safetensors"):
        SASRecModel.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "hinge"}, 'loss must be "ce", "sampled_softmax" or "bce"'),
        ({"hidden_size": 10, "num_attention_heads": 3}, "10 is not a multiple of num_attention_heads 3"),
        ({"max_history": 0}, "max_history must be a whole number of at least 1, not 0"),
        ({"num_negatives": 0}, "num_negatives must be a whole number of at least 1, not 0"),
        ({"num_attention_heads": 0}, "num_attention_heads must be a whole number of at least 1, not 0"),
        ({"hidden_size": 8.0}, "hidden_size must be a whole number of at least 1, not 8.0"),
        ({"dropout": 1}, "dropout must be at least 0 and below 1, not 1"),
    ],
)
def test_settings_that_make_no_model_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SASRecConfig(**settings)
