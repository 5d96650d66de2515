"""Any model of this package is prepared for training, also one that came in through remote code."""

import pytest
import torch
from transformers import TrainingArguments
from transformers.dynamic_module_utils import get_class_from_dynamic_module

from e4srec_hf.data import leave_one_out, make_demo_world
from e4srec_hf.data.item_tokenizer import build_item_tokenizer
from e4srec_hf.training import RankingTrainer, prepare_for_training
from e4srec_hf.training.packed_reading import PackedReader, packing_of
from tests.conftest import random_batch

NO_DROPOUT = {"r": 4, "lora_dropout": 0.0}


@pytest.fixture
def remote(make_model, base_dir, tmp_path):
    """The same model by the installed code and by the code that its folder brings."""

    def load(**config):
        model = make_model(base_dir, lora=NO_DROPOUT, **config)
        model.save_pretrained(tmp_path / "repo")
        remote_class = get_class_from_dynamic_module("modeling_e4srec.E4SRecModel", str(tmp_path / "repo"))
        assert remote_class is not type(model)
        return model, remote_class.from_pretrained(tmp_path / "repo")

    return load


def loss_and_gradients(model):
    ids, mask = random_batch()
    model.zero_grad()
    loss = model(ids, mask, labels=ids.masked_fill(mask == 0, -100)).loss
    loss.backward()
    return loss, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("training", [False, True])
def test_a_model_trains_the_same_with_and_without_the_package(training, remote):
    model, theirs = remote()
    prepare_for_training(model)
    assert packing_of(model).passed
    assert not isinstance(theirs.reader, PackedReader)
    loss, gradients = loss_and_gradients(model.train(training))
    plain_loss, expected = loss_and_gradients(theirs.train(training))
    torch.testing.assert_close(loss, plain_loss, rtol=1e-5, atol=0)
    assert gradients.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-4, atol=1e-5 * float(gradient.abs().max()) + 1e-8)


def test_remote_code_reads_packed_once_it_is_prepared(remote):
    model, theirs = remote()
    loss, _ = loss_and_gradients(prepare_for_training(model))
    rows = []
    theirs.base.register_forward_pre_hook(
        lambda module, args, kwargs: rows.append(len(kwargs["inputs_embeds"])), with_kwargs=True
    )
    ids, mask = random_batch()
    loss_and_gradients(prepare_for_training(theirs))  # and the checks of the base
    assert packing_of(theirs).passed
    rows.clear()
    assert torch.equal(loss_and_gradients(theirs)[0], loss)
    assert rows == [1, int((ids > 1).logical_and(mask.bool()).any(1).sum())]


def test_the_trainer_prepares_a_model_of_remote_code(base_dir, tmp_path, make_model, item_table):
    world = make_demo_world(n_users=40)
    splits = leave_one_out(world.sequences)
    items = build_item_tokenizer(world.titles)
    curves = []
    for remote in (False, True):
        torch.manual_seed(0)
        model = type(make_model(base_dir)).from_base(base_dir, torch.randn(len(items), 8), lora=NO_DROPOUT)
        model.save_pretrained(tmp_path / "repo")
        if remote:
            remote_class = get_class_from_dynamic_module("modeling_e4srec.E4SRecModel", str(tmp_path / "repo"))
            model = remote_class.from_pretrained(tmp_path / "repo")
        trainer = RankingTrainer(
            model,
            TrainingArguments(
                str(tmp_path / f"out-{remote}"), max_steps=4, logging_steps=1, save_strategy="no", report_to=[], seed=3
            ),
            tokenizer=items,
            train_dataset=splits["train"],
            eval_dataset=splits["validation"],
        )
        trainer.train()
        curves.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry] + [trainer.evaluate()])
        assert isinstance(model.reader, PackedReader)
    assert curves[0][:-1] == curves[1][:-1]
    assert curves[0][-1]["eval_mrr"] == curves[1][-1]["eval_mrr"]
