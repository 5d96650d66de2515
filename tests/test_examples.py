"""What a training leaves, from the script, from the command and from `accelerate launch`."""

import io
import json
import os
import re
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoModel, AutoTokenizer

from e4srec_hf import E4SRecModel, cli
from e4srec_hf.cards.markdown import plain
from e4srec_hf.cards.model_card import refresh_model_card
from e4srec_hf.catalogue import add_items
from e4srec_hf.data import (
    build_item_tokenizer,
    load_item_embeddings,
    load_sequences,
    make_demo_world,
    sequences_sha256,
    with_text,
)
from e4srec_hf.examples import new_book, train
from e4srec_hf.hub.datasets import save_dataset
from e4srec_hf.preparation import prepare
from e4srec_hf.training import sasrec, save_trained
from e4srec_hf.training.tiny_base import make_tiny_base
from tests.cli.running import run_both

EXAMPLES = Path(train.__file__).parent
QUICK = [
    *("--sasrec_epochs", "2", "--num_train_epochs", "1", "--made_base_hidden_size", "32", "--use_cpu", "true"),
    *("--tuning", "lora"),
    *("--disable_tqdm", "true", "--learning_rate", "3e-3", "--sasrec_hidden_size", "16"),
]


def start(*command, status=0):
    """Run a script in a Python of its own: what it prints to stdout, and to stderr."""
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done.stdout, done.stderr


def launch(*arguments, status=0):
    """Run train.py as `accelerate launch` does on one processor."""
    return start(
        *("-m", "accelerate.commands.launch", "--quiet", "--cpu", "--num_processes", 1, EXAMPLES / "train.py"),
        *arguments,
        status=status,
    )


def run(*arguments, status=0):
    """Run a command in this process: what it prints to stdout, or of a mistake to stderr."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            cli.main([str(argument) for argument in arguments])
        except SystemExit as left:
            code = left.code
    assert code == status, out.getvalue() + err.getvalue()
    return err.getvalue() if status else out.getvalue()


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """A reference text file and negatives for it."""
    world = make_demo_world(n_users=80, n_items=50)
    directory = tmp_path_factory.mktemp("log")
    rows = zip(world.sequences["user_id"], world.sequences["item_ids"], strict=True)
    (directory / "log.txt").write_text("".join(f"{user} {' '.join(items)}\n" for user, items in rows))
    unseen = [
        (user, [item for item in world.titles if item not in items][:9])
        for user, items in zip(world.sequences["user_id"], world.sequences["item_ids"], strict=True)
    ]
    (directory / "negatives.txt").write_text("".join(f"{user} {' '.join(items)}\n" for user, items in unseen))
    return directory


@pytest.fixture(scope="module")
def trained(log):
    """Trained through `accelerate launch`, with a sampled-negatives table as well."""
    output = log / "model"
    text, errors = launch(
        *("--dataset", log / "log.txt", "--output_dir", output, "--negatives", log / "negatives.txt", *QUICK)
    )
    assert "gemm_4bit" not in errors
    return output, text


@pytest.mark.slow
def test_a_mistake_under_accelerate_launch_is_one_line(tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("user_id,item_id,timestamp\nu,i,1\n")
    errors = launch("--output_dir", tmp_path / "out", "--use_cpu", "true", "--dataset", log, status=1)[1]
    assert errors.splitlines()[-1].startswith(f"train.py: {log} is a raw log, one interaction a row. Prepare it with:")
    assert errors.count("train.py: ") == 1
    assert "Traceback" not in errors


@pytest.mark.slow
def test_the_adapter_trains_with_gradient_checkpointing_and_sasrec_without(log):
    flags = ["--dataset", log / "log.txt", "--output_dir", log / "checkpointed", "--gradient_checkpointing", "true"]
    assert "| E4SRec " in run("train", *flags, *QUICK)


@pytest.mark.slow
def test_training_leaves_a_table_and_a_folder_that_loads(trained):
    output, text = trained
    rows = re.findall(r"^\| (popularity|SASRec|E4SRec) +\| [01]\.\d{4} \[", text, re.MULTILINE)
    assert rows == ["popularity", "SASRec", "E4SRec"] * 2
    assert "ranked among 9 sampled negatives" in text
    assert AutoModel.from_pretrained(output).config.vocab_size == 52
    files = {file.name for file in output.iterdir() if file.is_file()}
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json", "evaluation.json"} <= files
    assert {"training.json", "learning_curves.png"} <= files
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pkl"))]
    assert json.loads((output / "config.json").read_text())["base_model_name_or_path"] == "./base"


@pytest.mark.slow
def test_what_is_printed_has_a_heading_a_stage_and_a_row_an_epoch(trained):
    output, text = trained
    assert re.findall(r"^(.+)\n-+$", text, re.MULTILINE) == ["Data", "SASRec", "E4SRec", "Test"]
    facts = json.loads((output / "training.json").read_text())
    epochs = [curve for stage in facts["stages"].values() for curve in stage["curve"]]
    figures = [tuple(row.split()[:4]) for row in re.findall(r"^ +\d+ +\d+\.\d{4} .*$", text, re.MULTILINE)]
    assert figures == [
        (
            f"{epoch['epoch']:g}",
            *(f"{epoch[name]:.4f}" for name in ("loss", "hr@10", "ndcg@10")),
        )
        for epoch in epochs
    ]
    assert "{'" not in text
    assert all(character.isprintable() or character == "\n" for character in text)


@pytest.mark.slow
def test_training_leaves_cards_of_both_models(trained, log):
    output, _ = trained
    facts = json.loads((output / "training.json").read_text())
    sequences = load_sequences(str(log / "log.txt"))
    assert facts["data"]["sha256"] == sequences_sha256(sequences)
    assert (facts["data"]["name"], facts["data"]["users"]) == ("log.txt", 80)
    assert [len(stage["curve"]) for stage in facts["stages"].values()] == [2, 1]
    skew = json.loads((output / "evaluation.json").read_text())["popularity_skew"]
    assert list(skew["rows"]) == ["training data", "test targets", "SASRec", "E4SRec"]
    assert (facts["settings"]["made_base_hidden_size"], facts["settings"]["dataset"]) == (32, "log.txt")
    of_sasrec = json.loads((output / "sasrec" / "training.json").read_text())["settings"]
    assert of_sasrec["sasrec_batch_size"] == of_sasrec["per_device_train_batch_size"] == 8  # 80 users are few
    for folder, tag, figures in ((output, "e4srec", "E4SRec"), (output / "sasrec", "sasrec", "SASRec")):
        text = (folder / "README.md").read_text()
        data = ModelCard(text).data
        assert data.tags[0] == tag
        reports = json.loads((folder / "evaluation.json").read_text())
        assert [result.metric_value for result in data.eval_results if result.metric_type == "ndcg@10"] == [
            reports[kind][figures]["metrics"]["ndcg@10"]["value"] for kind in ("full", "sampled")
        ]
        assert str(output.parent) not in text.replace(
            f'"{folder}"', ""
        )  # the example calls the folder, and nothing else
        refresh_model_card(folder)
        assert (folder / "README.md").read_text() == text


@pytest.mark.slow
@pytest.mark.parametrize("vectors", ["SASRec", "given"])
def test_a_training_that_led_nowhere_says_so_on_stderr_in_the_figures_and_on_the_card(vectors, log, tmp_path):
    flags = ["--dataset", log / "log.txt", "--output_dir", tmp_path, *QUICK, "--learning_rate", "1e-7"]
    flags += ["--projection_init", "random"]
    if vectors == "given":
        np.save(tmp_path / "vectors.npy", np.zeros((52, 8), np.float32))
        flags += ["--item_embeddings", tmp_path / "vectors.npy", "--rank_test", "false"]
    out, errors = run_both("train", *flags)
    assert "WARNING" not in out
    evaluation = json.loads((tmp_path / "evaluation.json").read_text())
    assert errors.count("\nWARNING: ") == len(evaluation["warnings"])
    line = evaluation["warnings"][-1]
    assert f"\nWARNING: {line}\n" in errors
    assert line.startswith(("E4SRec is below", "E4SRec is not above", "E4SRec cannot be told from a random order"))
    assert "learning rate of at most 1e-07" in line
    assert set(evaluation["validation"]) == {"popularity", "E4SRec"} | ({"SASRec"} if vectors == "SASRec" else set())
    for report in evaluation["validation"].values():
        assert report["n_users"] == 80
    card = (tmp_path / "README.md").read_text()
    assert f"> **Warning:** {plain(line)}\n" in card
    if vectors == "SASRec":
        curve = json.loads((tmp_path / "training.json").read_text())["stages"]["SASRec"]
        assert evaluation["validation"]["SASRec"]["metrics"]["ndcg@10"]["value"] == pytest.approx(
            curve["selected"]["ndcg@10"], abs=1e-6
        )
        assert "E4SRec" not in (tmp_path / "sasrec" / "README.md").read_text().partition("## Use")[0]


@pytest.mark.slow
def test_the_command_gives_the_figures_of_the_script(trained, log):
    output, text = trained
    flags = ["--dataset", log / "log.txt", "--negatives", log / "negatives.txt", *QUICK]
    again = run("train", *flags, "--output-dir", log / "command")
    assert again[again.index("| model") :].replace("command", "model") == text[text.index("| model") :]
    for file in ("model.safetensors", "sasrec/model.safetensors"):
        assert (log / "command" / file).read_bytes() == (output / file).read_bytes()


@pytest.mark.slow
def test_a_data_set_with_titles_hands_them_on(log):
    world = make_demo_world(n_users=60, n_items=50)
    save_dataset(world.sequences, log / "prepared", titles=world.titles)
    flags = ["--dataset", log / "prepared", "--model", "sasrec", "--output_dir", log / "titled", "--rank_test", "false"]
    run("train", *flags, *QUICK)
    assert json.loads((log / "titled" / "sasrec" / "item_titles.json").read_text()) == world.titles
    text = (log / "titled" / "sasrec" / "README.md").read_text()
    assert "No figures: no test targets have been ranked with these weights." in text
    assert AutoTokenizer.from_pretrained(log / "titled" / "sasrec").convert_ids_to_tokens(2) == next(iter(world.titles))


@pytest.mark.slow
def test_titles_are_read_beside_the_item_vectors(log, tmp_path):
    world = make_demo_world(n_users=60, n_items=50)
    save_dataset(world.sequences, tmp_path / "titled", titles=dict(list(world.titles.items())[:40]))
    flags = ["--output_dir", tmp_path / "out", *QUICK, "--item_text", "true", "--base_layers", "1"]
    refused = run("train", "--dataset", log / "log.txt", *flags, status=1)
    assert f"--item_text true: {log / 'log.txt'} has no titles that tell its items apart." in refused
    assert not (tmp_path / "out" / "sasrec" / "model.safetensors").exists()  # nothing was trained
    told = run("train", "--dataset", tmp_path / "titled", *flags)
    assert "Item vectors: 16 wide, and 16 of their titles beside them, which 40 of 50 items have." in told
    assert json.loads((tmp_path / "out" / "training.json").read_text())["settings"]["item_text"] is True
    assert "item_text | True" in (tmp_path / "out" / "README.md").read_text().replace("\\", "")
    again = run("train", "--dataset", tmp_path / "titled", *flags, "--resume_from_checkpoint", "true")
    assert again[again.index("| model") :] == told[told.index("| model") :]
    flags[flags.index("true", flags.index("--item_text"))] = "false"
    refused = run(
        *("train", "--dataset", tmp_path / "titled", *flags, "--resume_from_checkpoint", "true"),
        status=1,
    )
    assert "is of a run with other settings: input_proj.weight is [32, 32] there and [32, 16] now" in refused
    model = E4SRecModel.from_pretrained(tmp_path / "out")
    items = AutoTokenizer.from_pretrained(tmp_path / "out")
    ids = load_item_embeddings(tmp_path / "out" / "sasrec", items)
    expected = with_text(ids, items, dict(list(world.titles.items())[:40]), model)
    torch.testing.assert_close(model.item_embeddings.weight, expected, rtol=1e-4, atol=1e-4)
    _, fit = add_items(model, items, ["new"], titles=["A new book"])
    assert fit.n_items == 40


@pytest.mark.slow
def test_training_on_a_prepared_folder_says_so_and_takes_its_splits(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    rows = [(f"u{n % 40}", f"i{(n * 7 + n // 40) % 23}", 1000 * (n // 40)) for n in range(400)]
    log = tmp_path / "log.csv"
    log.write_text("user_id,item_id,timestamp\n" + "".join(f"{user},{item},{time}\n" for user, item, time in rows))
    prepare("table", [log], tmp_path / "prepared", split="time", targets="last", oldest="1970-01-01")
    for streaming in ("false", "true"):
        out = tmp_path / streaming
        flags = ["--dataset", tmp_path / "prepared", "--model", "sasrec", "--streaming", streaming]
        run("train", *QUICK, *flags, "--output_dir", out)
        facts = json.loads((out / "sasrec" / "training.json").read_text())["data"]
        assert facts["split"]["kind"] == "time"
        assert facts["interactions"] == 400
        card = (out / "sasrec" / "README.md").read_text()
        assert "Split at points in time: validation from 1970-01-01T02:13:20Z, test from 1970-01-01T02:30:00Z" in card
        assert "Leave-one-out" not in card
    shown = run("evaluate", tmp_path / "false" / "sasrec", "--dataset", tmp_path / "prepared")
    assert "prepared: a prepared data set in a folder, split time" in shown


def test_the_folder_recommends_in_an_environment_without_the_package(trained):
    output, _ = trained
    assert not (output / "sample_recommendations.json").exists()  # a real user's history stays out of the folder
    history = ["B0007", "B0011"]
    recommended = re.findall(r"B\d{4}", run("recommend", output, *history))
    sample = {"history": history, "recommended": recommended}
    (output / "sample_recommendations.json").write_text(json.dumps(sample))
    (output / "item_titles.json").write_text(json.dumps({f"B{n:04d}": f"Book {n}" for n in range(50)}))
    printed, errors = start(EXAMPLES / "load_without_package.py", output)
    assert "The same ten as the trained model gave." in printed
    assert "Do you wish to run" not in printed
    assert "transformers_modules" in printed
    assert "gemm_4bit" not in printed + errors
    again = run("recommend", output, *sample["history"])
    assert re.findall(r"B\d{4}", again) == sample["recommended"]
    assert all(f"{item}  Book {int(item[1:])}" in again for item in sample["recommended"])
    refused = run("recommend", output, "nonsense", status=1)
    assert "1 item id(s) are not in the catalogue: 'nonsense'" in refused
    refused = run("recommend", output, *history, "--top_k", 0, status=1)
    assert "top_k must be between 1 and the 50 items of the catalogue, not 0" in refused


@pytest.mark.slow
def test_evaluating_the_folder_gives_the_figures_of_training(trained, log):
    output, _ = trained
    printed = run("evaluate", output, "--dataset", log / "log.txt", "--json")
    found = json.loads(printed[printed.index("\n{") :])[str(output)]["metrics"]
    assert found == json.loads((output / "evaluation.json").read_text())["full"]["E4SRec"]["metrics"]
    sampled = run("evaluate", output, "--dataset", log / "log.txt", "--negatives", 9, "--include_seen")
    assert "ranked among 9 sampled negatives, seen items kept" in sampled


@pytest.mark.slow
def test_a_folder_with_sasrec_alone_says_where_the_model_is(tmp_path):
    (tmp_path / "out" / "sasrec").mkdir(parents=True)
    (tmp_path / "out" / "sasrec" / "config.json").write_text('{"model_type": "sasrec"}')
    refused = run("evaluate", tmp_path / "out", "--dataset", "demo", status=1)
    assert f"holds no model itself: did you mean {tmp_path / 'out' / 'sasrec'}" in refused


@pytest.mark.slow
def test_item_vectors_can_come_from_a_trained_sasrec_and_a_run_can_be_resumed(trained, log):
    output, _ = trained
    arguments = ["--dataset", log / "log.txt", *QUICK, "--item_embeddings", output / "sasrec", "--output_dir"]
    nothing = run("train", *arguments, log / "second", "--resume_from_checkpoint", "true", status=1)
    assert "there is no checkpoint in" in nothing
    text = run("train", *arguments, log / "second")
    assert "| SASRec " in text
    assert not (log / "second" / "sasrec").exists()
    refused = run("train", *arguments, log / "second", status=1)
    assert "second holds checkpoints of an earlier run" in refused
    resumed = run("train", *arguments, log / "second", "--resume_from_checkpoint", "true")
    assert resumed[resumed.index("| model") :] == text[text.index("| model") :]


@pytest.mark.slow
def test_a_base_that_was_made_and_trained_whole_lies_in_the_model_alone(log, tmp_path):
    flags = ["--dataset", log / "log.txt", "--output_dir", tmp_path / "out", *QUICK, "--tuning", "full"]
    run("train", *flags)
    assert not (tmp_path / "out" / "base").exists()
    assert "passed" in run("verify", tmp_path / "out")
    before = (tmp_path / "out" / "model.safetensors").read_bytes()
    run("train", *flags, "--resume_from_checkpoint", "true")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == before
    assert not (tmp_path / "out" / "base").exists()


@pytest.mark.slow
def test_each_stage_shuffles_as_its_own_flag_says(log, tmp_path, monkeypatch):
    found = []

    class Remembering(train.RankingTrainer):
        def __init__(self, model, *args, **kwargs):
            super().__init__(model, *args, **kwargs)
            found.append((type(model).__name__, self.data_collator.shuffle_histories))

    for module in (train, sasrec):
        monkeypatch.setattr(module, "RankingTrainer", Remembering)
    flags = ["--shuffle_histories", 0.25, "--sasrec_shuffle_histories", 0.75, "--rank_test", "false"]
    run("train", "--dataset", log / "log.txt", "--output_dir", tmp_path, *QUICK, *flags)
    assert found == [("SASRecModel", 0.75), ("E4SRecModel", 0.25)]


@pytest.mark.slow
def test_the_log_and_the_card_say_at_which_rates_the_parts_learn(log, tmp_path, monkeypatch):
    found = {}

    class Remembering(train.RankingTrainer):
        def create_optimizer(self, *args):
            optimizer = super().create_optimizer(*args)
            groups = [(group["lr"], id(part)) for group in optimizer.param_groups for part in group["params"]]
            weights = {"head": self.model.score.weight, "projection": self.model.input_proj.weight}
            found.update({name: dict(map(reversed, groups))[id(weight)] for name, weight in weights.items()})
            return optimizer

    monkeypatch.setattr(train, "RankingTrainer", Remembering)
    flags = ["--rank_test", "false", "--projection_learning_rate", "0.0125"]
    told = run("train", "--dataset", log / "log.txt", "--output_dir", tmp_path, *QUICK, *flags)
    settings = json.loads((tmp_path / "training.json").read_text())["settings"]
    assert settings["head_learning_rate"] == found["head"] != 3e-3
    assert settings["projection_learning_rate"] == found["projection"] == 0.0125
    assert (
        f"Learning rates: --learning_rate 0.003, --head_learning_rate {found['head']:.3g}, "
        "--projection_learning_rate 0.0125." in told
    )
    assert "head learning rate" in (tmp_path / "README.md").read_text().replace("_", " ")


def test_a_new_book_is_recommended_by_its_title_alone(tmp_path, capsys, monkeypatch):
    world = make_demo_world(n_users=300, n_items=200)
    series = {item: title.split(",")[0] for item, title in world.titles.items()}
    generator = torch.Generator().manual_seed(0)
    centre = {name: torch.randn(24, generator=generator) for name in sorted(set(series.values()))}
    table = torch.stack([torch.zeros(24)] * 2 + [centre[series[item]] for item in world.titles])
    table += 0.1 * torch.randn(table.shape, generator=generator)
    base = make_tiny_base(tmp_path / "base", hidden_size=256, num_hidden_layers=1, texts=list(world.titles.values()))
    model = E4SRecModel.from_base(
        base, table, instruction="", response="", head="tied", projection_init="orthogonal"
    )  # as it starts, it recommends what resembles the last book
    save_trained(model, build_item_tokenizer(world.titles), tmp_path / "m", titles=world.titles)
    monkeypatch.setattr(new_book, "make_demo_world", lambda: world)
    monkeypatch.setattr(new_book, "READERS", len(world.sequences))
    new_book.main(str(tmp_path / "m"))
    told = capsys.readouterr().out

    items = add_items(model, build_item_tokenizer(world.titles), ["new"], titles=[new_book.TITLE]).tokenizer
    places = {}
    for reader, read in enumerate(world.sequences["item_ids"]):
        ids = torch.tensor([items.convert_tokens_to_ids(read)])
        scores = model.eval()(ids).logits[0]
        places[reader] = len({*(scores > scores[-1]).nonzero()[:, 0].tolist()} - {0, 1, *ids[0].tolist()})
    reached = [reader for reader, place in places.items() if place < 10]
    assert f"{len(reached)} of 300 readers get it among their ten; a book drawn by lot would reach 15." in told
    assert reached  # its title tells which books it resembles, also to a base that knows no English
    first = min(reached, key=lambda reader: places[reader])
    assert f"had last {world.titles[world.sequences[first]['item_ids'][-1]]}, and gets" in told
    assert f"{places[first] + 1:3}. new    {new_book.TITLE}" in told
