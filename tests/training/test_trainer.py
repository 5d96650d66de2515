"""Training: one trainer for both models, checkpoints of what is trained, and a resume that changes nothing."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer, TrainerCallback, TrainingArguments

from e4srec_hf import SASRecConfig, SASRecModel
from e4srec_hf.data import build_item_tokenizer, leave_one_out, make_demo_world
from e4srec_hf.evaluation.ranking import evaluate_ranking
from e4srec_hf.training.saving import save_trained
from e4srec_hf.training.trainer import SELECT_ON_VALIDATION, RankingTrainer
from tests.conftest import INSTRUCTION, RESPONSE


@pytest.fixture(scope="module")
def world():
    world = make_demo_world(n_users=60, n_items=50)
    return build_item_tokenizer(world.titles), leave_one_out(world.sequences)


def make_sasrec(tokenizer, **config):
    torch.manual_seed(0)
    return SASRecModel(SASRecConfig(vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, **config))


def make_e4srec(tokenizer, base_dir, **config):
    from e4srec_hf import E4SRecModel

    torch.manual_seed(0)
    table = torch.randn(len(tokenizer), 8)
    prompt = {"instruction": INSTRUCTION, "response": RESPONSE}
    return E4SRecModel.from_base(base_dir, table, **{"lora": {"r": 4}, "head": "tied"} | prompt | config)


def arguments(directory, **settings):
    return TrainingArguments(
        str(directory),
        **{
            "per_device_train_batch_size": 16,
            "per_device_eval_batch_size": 7,
            "num_train_epochs": 2,
            "learning_rate": 3e-3,
            "use_cpu": True,
            "disable_tqdm": True,
            "report_to": [],
        }
        | SELECT_ON_VALIDATION
        | settings,
    )


def make_trainer(model, directory, world, **settings):
    tokenizer, splits = world
    own_names = ("early_stopping_patience", "callbacks", "max_targets", "shuffle_histories", "all_targets")
    own = {name: settings.pop(name) for name in own_names if name in settings}
    return RankingTrainer(
        model,
        arguments(directory, **settings),
        tokenizer=tokenizer,
        train_dataset=splits["train"],
        eval_dataset=splits["validation"],
        **own,
    )


class StopAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step >= self.step


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sasrec", "sasrec-bce", "e4srec", "e4srec-full", "e4srec-capped"])
def test_a_resumed_training_equals_an_uninterrupted_one_bit_for_bit(kind, world, base_dir, tmp_path):
    def fresh():
        if kind.startswith("sasrec"):
            return make_sasrec(world[0], loss="bce" if kind.endswith("bce") else "ce")
        return make_e4srec(world[0], base_dir, tuning="full" if kind.endswith("full") else "lora")

    settings = {"eval_strategy": "no", "load_best_model_at_end": False, "save_strategy": "steps", "save_steps": 3}
    if kind.endswith("capped"):
        settings |= {
            "max_targets": 2,
            "shuffle_histories": 0.5,
            "train_sampling_strategy": "group_by_length",
            "dataloader_num_workers": 1,
        }
    whole = make_trainer(fresh(), tmp_path / "whole", world, **settings)
    whole.train()
    stopped = make_trainer(fresh(), tmp_path / "stopped", world, callbacks=[StopAt(3)], **settings)
    stopped.train()
    assert stopped.state.global_step == 3 < whole.state.global_step
    resumed = make_trainer(fresh(), tmp_path / "stopped", world, **settings)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == whole.state.global_step
    expected, found = whole.model.state_dict(), resumed.model.state_dict()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.slow
def test_checkpoints_hold_only_what_is_trained_and_resuming_warns_of_nothing(world, base_dir, tmp_path, caplog):
    model = make_e4srec(world[0], base_dir)
    trainer = make_trainer(model, tmp_path, world)
    trainer.train()
    checkpoint = tmp_path / f"checkpoint-{trainer.state.best_global_step}"
    assert set(load_file(checkpoint / "model.safetensors")) == set(model.saved_keys())
    assert AutoTokenizer.from_pretrained(checkpoint).get_vocab() == world[0].get_vocab()
    with caplog.at_level("WARNING"):
        import transformers

        transformers.utils.logging.enable_propagation()
        again = make_trainer(make_e4srec(world[0], base_dir), tmp_path, world, num_train_epochs=3)
        again.train(resume_from_checkpoint=str(checkpoint))
        transformers.utils.logging.disable_propagation()
    assert "missing keys" not in caplog.text
    assert "unexpected keys" not in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sasrec", "e4srec"])
def test_the_trainer_reports_what_the_evaluation_finds(kind, world, base_dir, tmp_path):
    tokenizer, splits = world
    model = make_sasrec(tokenizer) if kind == "sasrec" else make_e4srec(tokenizer, base_dir)
    trainer = make_trainer(model, tmp_path, world)
    metrics = trainer.evaluate()
    report = evaluate_ranking(model, splits["validation"], tokenizer)
    for name, estimate in report.metrics.items():
        assert metrics[f"eval_{name}"] == pytest.approx(estimate.value), name
    prediction = trainer.predict(splits["test"])
    np.testing.assert_array_equal(prediction.predictions, evaluate_ranking(model, splits["test"], tokenizer).ranks)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sasrec", "e4srec"])
def test_scores_are_ranked_in_float32_under_mixed_precision(kind, world, base_dir, tmp_path):
    """In bfloat16 many items tie, and ties count against the model."""
    tokenizer, splits = world
    model = make_sasrec(tokenizer) if kind == "sasrec" else make_e4srec(tokenizer, base_dir)
    trainer = make_trainer(model, tmp_path, world, bf16=True, num_train_epochs=1)
    trainer.train()
    batch = trainer.data_collator([splits["train"][0]])
    model.eval()
    scores = model(batch["input_ids"], batch["attention_mask"]).logits[0]
    assert scores.dtype == torch.float32
    assert len(scores.unique()) > len(scores) - 3
    model = trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    save_trained(model, tokenizer, tmp_path / "saved")
    reloaded = AutoModel.from_pretrained(tmp_path / "saved")
    np.testing.assert_array_equal(
        evaluate_ranking(model, splits["test"], tokenizer).ranks,
        evaluate_ranking(reloaded, splits["test"], tokenizer).ranks,
    )


def test_labels_cannot_be_smoothed(world, tmp_path):
    tokenizer, splits = world
    with pytest.raises(ValueError, match="leave label_smoothing_factor at 0"):
        RankingTrainer(
            make_sasrec(tokenizer),
            arguments(tmp_path, label_smoothing_factor=0.1),
            tokenizer=tokenizer,
            train_dataset=splits["train"],
            eval_dataset=splits["validation"],
        )


def test_the_tokenizer_must_be_that_of_the_model(world, tmp_path):
    with pytest.raises(ValueError, match="they do not belong together"):
        make_trainer(make_sasrec(build_item_tokenizer(["a"])), tmp_path, world)
    with pytest.raises(ValueError, match="they do not belong together"):
        save_trained(make_sasrec(build_item_tokenizer(["a"])), world[0], tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


@pytest.mark.slow
def test_the_best_epoch_on_validation_is_kept_and_training_stops_early(world, tmp_path):
    tokenizer, splits = world
    model = make_sasrec(tokenizer)
    trainer = make_trainer(model, tmp_path, world, early_stopping_patience=2, num_train_epochs=60, learning_rate=3e-2)
    trainer.train()
    seen = [entry["eval_ndcg@10"] for entry in trainer.state.log_history if "eval_ndcg@10" in entry]
    assert len(seen) < 60
    assert seen.index(max(seen)) == len(seen) - 3
    kept = evaluate_ranking(model, splits["validation"], tokenizer).metrics["ndcg@10"].value
    assert kept == pytest.approx(max(seen))


@pytest.mark.slow
def test_training_learns_the_structure_of_the_demo_world(tmp_path):
    world = make_demo_world(n_users=600, n_items=50)
    tokenizer, splits = build_item_tokenizer(world.titles), leave_one_out(world.sequences)
    model = make_sasrec(tokenizer)
    before = evaluate_ranking(model, splits["test"], tokenizer).metrics["ndcg@10"].value
    make_trainer(model, tmp_path, (tokenizer, splits), num_train_epochs=8, learning_rate=1e-2).train()
    after = evaluate_ranking(model, splits["test"], tokenizer).metrics["ndcg@10"].value
    assert after > max(0.5, 2 * before)


@pytest.mark.slow
def test_accumulated_steps_equal_large_batches(world, base_dir, tmp_path):
    """With users of different lengths a mean of means would not."""
    results = []
    for size, steps in ((16, 1), (4, 4)):
        model = make_e4srec(world[0], base_dir, lora={"r": 4, "lora_dropout": 0.0})
        settings = {"per_device_train_batch_size": size, "gradient_accumulation_steps": steps, "max_steps": 3}
        trainer = make_trainer(model, tmp_path / str(size), world, **settings, optim="sgd", eval_strategy="no",
                               save_strategy="no", load_best_model_at_end=False)  # fmt: skip
        trainer.train()
        results.append(model.state_dict())
    for name, tensor in results[0].items():
        torch.testing.assert_close(results[1][name], tensor, rtol=1e-4, atol=1e-6)


def test_a_saved_model_has_its_items_and_no_pickle(world, base_dir, tmp_path):
    model = make_e4srec(world[0], base_dir)
    save_trained(model, world[0], tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path).get_vocab() == world[0].get_vocab()
    assert AutoModel.from_pretrained(tmp_path).config.vocab_size == len(world[0])
    assert not [file for file in tmp_path.iterdir() if file.suffix in {".bin", ".pt", ".pkl"}]
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "e4srec"


class Batches(TrainerCallback):
    """Remembers what the model is given."""

    def __init__(self, model):
        self.labels, self.items = [], []
        model.register_forward_pre_hook(self.remember, with_kwargs=True)

    def remember(self, model, args, kwargs):
        self.labels.append(kwargs["labels"])
        self.items += [row[row > 0].tolist() for row in kwargs["input_ids"]]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_cap_on_targets_is_drawn_anew_each_epoch(workers, world, base_dir, tmp_path):
    model = make_e4srec(world[0], base_dir)
    seen = Batches(model)
    persistent = {"dataloader_num_workers": workers, "dataloader_persistent_workers": workers > 0}
    trainer = make_trainer(
        model,
        tmp_path,
        world,
        max_targets=2,
        eval_strategy="no",
        save_strategy="no",
        load_best_model_at_end=False,
        **persistent,
    )
    trainer.train()
    per_epoch = len(seen.labels) // 2
    assert all(int((labels > 0).sum(1).max()) <= 2 for labels in seen.labels)
    first, second = (
        sorted(row[row > 0].tolist() for labels in part for row in labels)
        for part in (seen.labels[:per_epoch], seen.labels[per_epoch:])
    )
    assert len(first) == len(second) == len(trainer.train_dataset)
    assert first != second
    assert trainer.targets_a_step() == pytest.approx(sum(len(row) for row in first) / len(first) * 16)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_histories_are_shuffled_anew_each_epoch(share, world, base_dir, tmp_path):
    model = make_e4srec(world[0], base_dir)
    seen = Batches(model)
    settings = {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False}
    make_trainer(model, tmp_path, world, shuffle_histories=share, **settings).train()
    rows = [world[0].convert_tokens_to_ids(items) for items in world[1]["train"]["item_ids"]]
    first, second = seen.items[: len(rows)], seen.items[len(rows) :]
    assert sorted(map(sorted, first)) == sorted(map(sorted, second)) == sorted(map(sorted, rows))
    assert (sorted(first) == sorted(rows)) == (sorted(second) == sorted(rows)) == (share == 0)
    assert (sorted(first) == sorted(second)) == (share == 0)


def test_batches_can_be_grouped_by_length_and_all_targets_trained_on(world, base_dir, tmp_path):
    model = make_e4srec(world[0], base_dir, max_history=5)
    trainer = make_trainer(
        model,
        tmp_path,
        world,
        all_targets=True,
        train_sampling_strategy="group_by_length",
        per_device_train_batch_size=4,
    )
    n_items = sum(len(items) for items in world[1]["train"]["item_ids"])
    assert "eval_ndcg@10" in trainer.evaluate()  # whose rows stay in order
    ranks = trainer.predict(world[1]["validation"]).predictions
    assert ranks.tolist() == evaluate_ranking(model, world[1]["validation"], world[0]).ranks.tolist()
    batches = list(trainer.get_train_dataloader())
    assert sum(int((batch["labels"] > 0).sum()) for batch in batches) == n_items
    spread = [int(n.max() - n.min()) for n in (batch["attention_mask"].sum(1) for batch in batches)]
    assert sum(spread) / len(spread) < 1.5
    assert trainer.targets_a_step() == pytest.approx(4 * n_items / len(trainer.train_dataset))
