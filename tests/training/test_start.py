"""A fresh adapter starts where a linear map of its base's states says what SASRec says."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import TrainingArguments

from e4srec_hf import E4SRecModel, RankingTrainer
from e4srec_hf.modeling import SASRecConfig, SASRecModel
from e4srec_hf.modeling.bases import text_embeddings
from e4srec_hf.training import start
from e4srec_hf.training.start import rates_of_parts, scale_to_text, start_from_sasrec
from tests.conftest import INSTRUCTION, ITEM_DIM, RESPONSE, VOCAB


@pytest.fixture
def sasrec():
    torch.manual_seed(3)
    return SASRecModel(SASRecConfig(vocab_size=VOCAB, hidden_size=ITEM_DIM, num_attention_heads=1)).eval()


@pytest.fixture
def rows(raw_ids):
    drawn = np.random.default_rng(0)
    lengths = drawn.integers(1, 12, size=60)
    return Dataset.from_dict({"item_ids": [drawn.choice(raw_ids, size=n).tolist() for n in lengths]})


def fresh(make_base, text_tokenizer, sasrec, kind="llama", table=None, **settings):
    torch.manual_seed(0)
    prompt = {"instruction": INSTRUCTION, "response": RESPONSE, "tokenizer": text_tokenizer}
    table = sasrec.item_embeddings.weight if table is None else table
    return E4SRecModel.from_base(make_base(kind), table, projection_init="orthogonal", **prompt | settings)


def states_one_by_one(model, sasrec, rows, tokenizer):
    """The states of both models before each target, one history at a time, through `history_vectors`."""
    of_base, of_sasrec, head = [], [], model.config.head
    model.eval()
    for items in rows["item_ids"]:
        tokens = torch.tensor([tokenizer.convert_tokens_to_ids(items)])
        for n in range(1, tokens.shape[1]):
            model.config.head = "linear"  # the state itself
            of_base.append(model.history_vectors(tokens[:, :n], torch.tensor([n]))[0])
            model.config.head = head
            of_sasrec.append(sasrec.history_vectors(tokens[:, :n], torch.tensor([n]))[0])
    return torch.stack(of_base).double(), torch.stack(of_sasrec).double()


@pytest.mark.parametrize("head", ["linear", "tied"])
@pytest.mark.parametrize("kind", ["llama", "gemma3", "gpt2"])
@torch.no_grad()
def test_the_head_is_the_ridge_solution(make_base, text_tokenizer, item_tokenizer, sasrec, rows, head, kind):
    model = fresh(make_base, text_tokenizer, sasrec, kind, head=head)
    fit = start_from_sasrec(model, sasrec, rows, item_tokenizer)
    x, y = states_one_by_one(model, sasrec, rows, item_tokenizer)
    assert fit.n_targets == len(x) == sum(len(items) - 1 for items in rows["item_ids"])
    # ridge regression as least squares with rows that pull towards zero
    pull = (fit.penalty * x.square().sum() / x.shape[1]).sqrt() * torch.eye(x.shape[1]).double()
    expected = torch.linalg.lstsq(torch.cat([x, pull]), torch.cat([y, torch.zeros(x.shape[1], y.shape[1])])).solution.T
    if head == "linear":
        expected = sasrec.item_embeddings.weight.double() @ expected
    torch.testing.assert_close(
        model.score.weight.double(), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max())
    )


@pytest.mark.parametrize("head", ["linear", "tied"])
@torch.no_grad()
def test_of_a_wider_item_table_the_first_columns_are_those_of_sasrec(
    make_base, text_tokenizer, item_tokenizer, sasrec, rows, head
):
    beside = torch.randn(VOCAB, 5, generator=torch.Generator().manual_seed(1))
    table = torch.cat([sasrec.item_embeddings.weight, beside], dim=1)
    model = fresh(make_base, text_tokenizer, sasrec, head=head, table=table)
    fit = start_from_sasrec(model, sasrec, rows, item_tokenizer)
    x, y = states_one_by_one(model, sasrec, rows, item_tokenizer)
    pull = fit.penalty * x.square().sum() / x.shape[1] * torch.eye(x.shape[1]).double()
    solution = torch.linalg.inv(x.T @ x + pull) @ x.T @ y  # (hidden, item dimension)
    for items in rows["item_ids"][:5]:
        tokens = torch.tensor([item_tokenizer.convert_tokens_to_ids(items)])
        state = states_one_by_one(model, sasrec, Dataset.from_dict({"item_ids": [[*items, items[0]]]}), item_tokenizer)
        expected = sasrec.item_embeddings.weight.double() @ (state[0][-1] @ solution)
        found = model(tokens).logits[0].double()
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
    if head == "tied":
        assert not model.score.weight[ITEM_DIM:].any()
    swapped = fresh(make_base, text_tokenizer, sasrec, table=table.flip(1))
    with pytest.raises(ValueError, match="not that of the SASRec"):
        start_from_sasrec(swapped, sasrec, rows, item_tokenizer)


@torch.no_grad()
def test_the_penalty_is_the_best_on_held_out_histories(
    make_base, text_tokenizer, item_tokenizer, sasrec, rows, monkeypatch
):
    found = {}
    for penalty in start.PENALTIES:
        with monkeypatch.context() as patch:
            patch.setattr(start, "PENALTIES", [penalty])
            found[penalty] = start_from_sasrec(fresh(make_base, text_tokenizer, sasrec), sasrec, rows, item_tokenizer)
    chosen = start_from_sasrec(fresh(make_base, text_tokenizer, sasrec), sasrec, rows, item_tokenizer)
    assert chosen.penalty == max(found, key=lambda penalty: found[penalty].r2_held_out)
    assert chosen.r2_held_out == pytest.approx(max(fit.r2_held_out for fit in found.values()))


@torch.no_grad()
def test_the_first_scores_have_the_size_with_the_least_loss(make_base, text_tokenizer, item_tokenizer, sasrec, rows):
    plain, sized = (fresh(make_base, text_tokenizer, sasrec) for _ in range(2))
    start_from_sasrec(plain, sasrec, rows, item_tokenizer)
    rows = rows.filter(lambda row: len(row["item_ids"]) > 1)
    fit = start_from_sasrec(sized, sasrec, rows, item_tokenizer, validation=rows)
    losses = dict.fromkeys(start.SIZES, 0.0)
    plain.eval()
    for items in rows["item_ids"]:
        tokens = item_tokenizer.convert_tokens_to_ids(items)
        scores = plain(torch.tensor([tokens[:-1]])).logits[0].double()
        for size in losses:
            losses[size] += float((size * scores).exp().sum().log() - size * scores[tokens[-1]])
    assert fit.size == min(losses, key=lambda size: losses[size])
    torch.testing.assert_close(sized.score.weight, fit.size * plain.score.weight)


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
@torch.no_grad()
def test_lifted_vectors_are_as_long_as_text(make_base, text_tokenizer, sasrec, kind):
    model = fresh(make_base, text_tokenizer, sasrec, kind)
    said = scale_to_text(model, 2.0)
    tokens = text_embeddings(model.base)
    text = torch.stack([tokens(torch.tensor(token)).norm() for token in range(tokens.num_embeddings)]).mean()
    items = torch.stack([model.project(torch.tensor([item]))[0].norm() for item in range(2, VOCAB)]).mean()
    assert said == pytest.approx(float(2 * text), rel=1e-5)
    assert float(items) == pytest.approx(said, rel=1e-5)


def test_it_draws_nothing_and_repeats_itself(make_base, text_tokenizer, item_tokenizer, sasrec, rows):
    weights = []
    for _ in range(2):
        model = fresh(make_base, text_tokenizer, sasrec)
        before = torch.get_rng_state()
        start_from_sasrec(model, sasrec, rows, item_tokenizer)
        assert torch.equal(torch.get_rng_state(), before)
        assert model.training
        assert model.score.weight.requires_grad
        weights.append(model.score.weight.detach())
    assert torch.equal(*weights)


def test_another_sasrec_is_refused(make_base, text_tokenizer, item_tokenizer, sasrec, rows):
    model = fresh(make_base, text_tokenizer, sasrec)
    with torch.no_grad():
        sasrec.item_embeddings.weight[5] += 1
    with pytest.raises(ValueError, match="not that of the SASRec"):
        start_from_sasrec(model, sasrec, rows, item_tokenizer)


def test_too_few_histories_are_refused(make_base, text_tokenizer, item_tokenizer, sasrec, raw_ids):
    model = fresh(make_base, text_tokenizer, sasrec)
    for rows in ([raw_ids[:1]] * 5, [raw_ids[:4]], []):
        with pytest.raises(ValueError, match="too few"):
            start_from_sasrec(model, sasrec, Dataset.from_dict({"item_ids": rows}), item_tokenizer)


@torch.no_grad()
def test_a_base_whose_states_are_not_finite_is_refused(make_base, text_tokenizer, item_tokenizer, sasrec, rows):
    model = fresh(make_base, text_tokenizer, sasrec)
    model.base.layers[0].mlp.down_proj.weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match="The states of the base hold NaN or infinity"):
        start_from_sasrec(model, sasrec, rows, item_tokenizer)


@pytest.mark.parametrize("head", ["linear", "tied"])
@torch.no_grad()
def test_a_step_of_the_head_moves_a_score_equally_far_on_every_base(
    make_base, text_tokenizer, item_tokenizer, sasrec, rows, head
):
    model = fresh(make_base, text_tokenizer, sasrec, head=head)
    fit = start_from_sasrec(model, sasrec, rows, item_tokenizer)
    states = states_one_by_one(model, sasrec, rows, item_tokenizer)[0]
    deviations = states.std(dim=0, correction=0).float()
    assert fit.spread == pytest.approx(float(deviations.sum()), rel=1e-3)
    rate = rates_of_parts(model, fit)["score"]
    moved = torch.full_like(model.score.weight, rate) @ deviations  # a step of Adam, in the direction that moves most
    if head == "tied":
        moved = model.item_embeddings.weight[2:].abs() @ moved
    assert float(moved.mean()) == pytest.approx(0.04, rel=1e-3)


def test_parts_learn_at_rates_of_their_own(make_base, text_tokenizer, item_tokenizer, sasrec, rows, tmp_path):
    model = fresh(make_base, text_tokenizer, sasrec, train_item_embeddings=True)
    fit = start_from_sasrec(model, sasrec, rows, item_tokenizer)
    rates = rates_of_parts(model, fit)
    assert rates["input_proj"] == pytest.approx(1e-3 * float(model.input_proj.weight.square().mean().sqrt()))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    arguments = TrainingArguments(
        str(tmp_path), learning_rate=1e-2, max_steps=1, lr_scheduler_type="constant", max_grad_norm=0, report_to="none"
    )
    trainer = RankingTrainer(
        model, arguments, tokenizer=item_tokenizer, train_dataset=rows, learning_rates={**rates, "item_embeddings": 0.0}
    )
    trainer.train()
    moved = {name: float((p.detach() - before[name]).abs().max()) for name, p in model.named_parameters()}
    assert moved["score.weight"] == pytest.approx(rates["score"], rel=1e-2)  # a step of Adam is the rate
    assert moved["input_proj.weight"] == pytest.approx(rates["input_proj"], rel=1e-2)
    assert moved["item_embeddings.weight"] == 0
    lora = [change for name, change in moved.items() if "lora_B" in name]
    assert max(lora) == pytest.approx(1e-2, rel=1e-2)
    trained = {id(p) for p in model.parameters() if p.requires_grad}
    grouped = [id(p) for group in trainer.optimizer.param_groups for p in group["params"]]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == trained


def test_the_groups_of_the_optimizer_have_one_order(make_base, text_tokenizer, item_tokenizer, sasrec, rows, tmp_path):
    rates = {"score": 0.25, "input_proj": 0.5}
    orders = []
    for given in (rates, dict(reversed(rates.items()))):
        model = fresh(make_base, text_tokenizer, sasrec)
        made = RankingTrainer(
            model, TrainingArguments(str(tmp_path)), tokenizer=item_tokenizer, learning_rates=given
        ).create_optimizer()
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        orders.append([(group["lr"], [names[id(p)] for p in group["params"]]) for group in made.param_groups])
    assert orders[0] == orders[1]
    assert {rate for rate, _ in orders[0]} == {0.25, 0.5, TrainingArguments(str(tmp_path)).learning_rate}


def test_a_part_that_there_is_not_is_refused(make_base, text_tokenizer, item_tokenizer, sasrec, rows, tmp_path):
    model = fresh(make_base, text_tokenizer, sasrec)
    with pytest.raises(ValueError, match="does not have: head"):
        RankingTrainer(model, TrainingArguments(str(tmp_path)), tokenizer=item_tokenizer, learning_rates={"head": 1e-3})


def test_without_validation_targets_scores_are_as_large_as_those_of_sasrec(
    make_base, text_tokenizer, item_tokenizer, sasrec, rows
):
    for validation in (None, rows.select([])):
        model = fresh(make_base, text_tokenizer, sasrec)
        assert start_from_sasrec(model, sasrec, rows, item_tokenizer, validation=validation).size == 1
