"""A training leaves its facts, its picture and its card."""

import pytest
import torch
from transformers import TrainerCallback, TrainingArguments

from e4srec_hf import E4SRecModel, SASRecConfig, SASRecModel
from e4srec_hf.cards.callback import CardCallback
from e4srec_hf.cards.facts import load_facts
from e4srec_hf.cards.model_card import refresh_model_card
from e4srec_hf.data import build_item_tokenizer, leave_one_out, make_demo_world
from e4srec_hf.data.description import describe_data
from e4srec_hf.evaluation import evaluate_ranking, load_reports, save_reports
from e4srec_hf.files import CURVES_NAME
from e4srec_hf.training.saving import save_trained
from e4srec_hf.training.trainer import SELECT_ON_VALIDATION, RankingTrainer
from tests.conftest import INSTRUCTION, RESPONSE


@pytest.fixture(scope="module")
def world():
    world = make_demo_world(n_users=40, n_items=50)
    return world, build_item_tokenizer(world.titles), leave_one_out(world.sequences)


def make_trainer(model, directory, world, card, callbacks=(), **settings):
    _, tokenizer, splits = world
    settings = {"num_train_epochs": 2, "per_device_train_batch_size": 20, "logging_strategy": "epoch"} | settings
    return RankingTrainer(
        model,
        TrainingArguments(
            str(directory),
            use_cpu=True,
            disable_tqdm=True,
            report_to=[],
            **SELECT_ON_VALIDATION | settings,
        ),
        tokenizer=tokenizer,
        train_dataset=splits["train"],
        eval_dataset=splits["validation"],
        callbacks=[card, *callbacks],
    )


def make_sasrec(tokenizer):
    torch.manual_seed(0)
    return SASRecModel(SASRecConfig(vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=1))


def make_e4srec(tokenizer, base_dir):
    torch.manual_seed(0)
    prompt = {"instruction": INSTRUCTION, "response": RESPONSE}
    return E4SRecModel.from_base(base_dir, torch.randn(len(tokenizer), 8), head="tied", lora={"r": 2}, **prompt)


def test_facts_picture_and_card_are_there_when_training_ends(world, base_dir, tmp_path):
    made, tokenizer, _ = world
    sasrec = make_trainer(make_sasrec(tokenizer), tmp_path / "sasrec", world, CardCallback())
    sasrec.train()
    card = CardCallback(
        describe_data("demo", made.sequences),
        settings={"negatives": str(base_dir), "head": "by hand"},
        seeds={"negatives_seed": 7},
        sasrec=tmp_path / "sasrec",
    )
    directory = tmp_path / "model"
    model = make_e4srec(tokenizer, base_dir)
    trainer = make_trainer(model, directory, world, card, seed=3, learning_rate=0.01)
    (directory / CURVES_NAME).write_bytes(b"old")
    trainer.train()
    facts = load_facts(directory)
    assert facts["data"]["users"] == 40
    assert facts["seeds"] == {"seed": 3, "data_seed": None, "negatives_seed": 7}
    assert facts["settings"]["negatives"] == "tiny"  # where it lay is nobody's business
    assert (facts["settings"]["head"], facts["settings"]["learning_rate"]) == ("by hand", 0.01)
    assert facts["settings"]["max_history"] == model.config.max_history
    assert list(facts["stages"]) == ["SASRec", "E4SRec"]
    assert facts["stages"]["SASRec"] == load_facts(tmp_path / "sasrec")["stages"]["SASRec"]
    logged = {entry["step"]: entry["eval_ndcg@10"] for entry in trainer.state.log_history if "eval_ndcg@10" in entry}
    curve = facts["stages"]["E4SRec"]["curve"]
    assert {entry["step"]: entry["ndcg@10"] for entry in curve} == logged
    assert [entry["epoch"] for entry in curve] == [1, 2]
    assert all("loss" in entry for entry in curve)
    assert facts["stages"]["E4SRec"]["selected"]["step"] == trainer.state.best_global_step
    assert (directory / CURVES_NAME).read_bytes().startswith(b"\x89PNG")
    written = (directory / "README.md").read_text()
    save_trained(model, tokenizer, directory)
    refresh_model_card(directory)
    assert (directory / "README.md").read_text() == written


def test_after_a_further_training_the_card_shows_no_figures_of_the_earlier_weights(world, tmp_path):
    _, tokenizer, splits = world
    model = make_sasrec(tokenizer)
    make_trainer(model, tmp_path, world, CardCallback()).train()
    save_trained(model, tokenizer, tmp_path)
    report = evaluate_ranking(model, splits["test"], tokenizer)
    save_reports({"full": {"SASRec": report}}, tmp_path)
    refresh_model_card(tmp_path)
    assert report.protocol in (tmp_path / "README.md").read_text().replace("Ranked", "ranked")
    save_trained(model, tokenizer, tmp_path)  # the same model again
    assert load_reports(tmp_path)
    make_trainer(model, tmp_path, world, CardCallback()).train()
    assert not (tmp_path / "evaluation.json").exists()
    assert "No figures" in (tmp_path / "README.md").read_text()  # while the weights of before lie beside
    save_trained(model, tokenizer, tmp_path)
    assert load_reports(tmp_path) == {}
    assert "No figures" in (tmp_path / "README.md").read_text()


class Stop(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step >= self.step


def test_a_resumed_training_keeps_its_curve_and_its_time(world, tmp_path, monkeypatch):
    clock = iter(range(0, 100_000, 10))
    monkeypatch.setattr("e4srec_hf.cards.callback.perf_counter", lambda: next(clock))
    tokenizer = world[1]
    first = make_trainer(make_sasrec(tokenizer), tmp_path, world, CardCallback(), [Stop(2)], num_train_epochs=3)
    first.train()
    before = load_facts(tmp_path)["stages"]["SASRec"]
    assert [entry["epoch"] for entry in before["curve"]] == [1]
    again = make_trainer(make_sasrec(tokenizer), tmp_path, world, CardCallback(), num_train_epochs=3)
    again.train(resume_from_checkpoint=True)
    after = load_facts(tmp_path)["stages"]["SASRec"]
    assert [entry["epoch"] for entry in after["curve"]] == [1, 2, 3]
    assert after["curve"][0] == before["curve"][0]
    # ten seconds a look at the clock: the start, a look a log, the end. The log of the first part that the checkpoint
    # holds has two entries, loss and ranking; the second part has two epochs of them and a summary
    assert before["seconds"] == 10 * (3 + 1)
    assert after["seconds"] == 10 * 2 + 10 * (5 + 1)


def test_a_card_that_cannot_be_read_is_found_before_anything_is_trained(world, tmp_path):
    (tmp_path / "README.md").write_text("---\nlicense: [\n---\n")
    trainer = make_trainer(make_sasrec(world[1]), tmp_path, world, CardCallback())
    with pytest.raises(ValueError, match=r"The metadata of .*README.md cannot be read"):
        trainer.train()
    assert trainer.state.global_step == 0


def test_a_second_training_starts_its_clock_anew(world, tmp_path, monkeypatch):
    clock = iter(range(0, 100_000, 10))
    monkeypatch.setattr("e4srec_hf.cards.callback.perf_counter", lambda: next(clock))
    card = CardCallback()
    seconds = []
    for _ in range(2):
        make_trainer(make_sasrec(world[1]), tmp_path, world, card).train()
        seconds.append(load_facts(tmp_path)["stages"]["SASRec"]["seconds"])
    assert seconds[0] == seconds[1]


def test_only_the_main_process_writes(world, tmp_path):
    trainer = make_trainer(make_sasrec(world[1]), tmp_path / "run", world, CardCallback())
    trainer.state.is_world_process_zero = False
    card = next(callback for callback in trainer.callback_handler.callbacks if isinstance(callback, CardCallback))
    card.on_train_begin(trainer.args, trainer.state, trainer.control)
    card.on_train_end(trainer.args, trainer.state, trainer.control, model=trainer.model, processing_class=world[1])
    assert not list(tmp_path.glob("run/*"))
