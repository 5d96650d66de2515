"""The scripts, run as a user runs them."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from transformers import AutoModel, AutoTokenizer

from e4srec_hf.cards.model_card import refresh_model_card
from e4srec_hf.data import load_sequences, make_demo_world, sequences_sha256
from e4srec_hf.hub.datasets import save_dataset
from e4srec_hf.preparation import prepare

EXAMPLES = Path(__file__).parent.parent / "examples"
QUICK = [
    *("--sasrec_epochs", "2", "--num_train_epochs", "1", "--made_base_hidden_size", "32", "--use_cpu", "true"),
    *("--disable_tqdm", "true", "--learning_rate", "3e-3", "--sasrec_hidden_size", "16"),
]


def run(*command, expect_failure=False, **environment):
    result = subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1"} | environment,
        check=False,
    )
    assert (result.returncode != 0) == expect_failure, result.stderr
    return result.stdout + result.stderr if expect_failure else result.stdout


@pytest.fixture(scope="module")
def train():
    sys.path.insert(0, str(EXAMPLES))  # as when it is run as a script
    spec = importlib.util.spec_from_file_location("train_example", EXAMPLES / "train.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["train_example"] = module
    spec.loader.exec_module(module)
    return module


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
    text = run(
        *("-m", "accelerate.commands.launch", "--cpu", "--num_processes", 1, EXAMPLES / "train.py"),
        *("--dataset", log / "log.txt", "--output_dir", output, "--negatives", log / "negatives.txt", *QUICK),
    )
    return output, text


def test_flags_win_over_the_file_and_the_file_over_defaults(train, tmp_path):
    config = tmp_path / "settings.yaml"
    config.write_text("learning_rate: 1e-2\nhead: linear\nsasrec_layers: 1\nbf16: false\n")
    data, model, sasrec, training = train.parse_arguments(
        ["--config", str(config), "--head", "tied", "--output_dir", str(tmp_path)]
    )
    assert (training.learning_rate, model.head, sasrec.sasrec_layers) == (0.01, "tied", 1)
    assert training.lr_scheduler_type == "cosine"
    assert training.metric_for_best_model == "ndcg@10"
    assert data.dataset == "demo"


def test_without_arguments_it_is_the_demo(train):
    data, model, _, training = train.parse_arguments([])
    assert (data.dataset, training.output_dir, model.tuning) == ("demo", "outputs/demo", "lora")


def test_a_data_set_alone_does_not_get_the_settings_of_the_demo(train):
    data, _, _, training = train.parse_arguments(["--dataset", "log.txt"])
    assert (data.dataset, training.output_dir) == ("log.txt", "outputs/e4srec")


def test_unknown_settings_are_named(train, tmp_path, capsys):
    config = tmp_path / "settings.yaml"
    config.write_text("learning_rat: 1e-2\n")
    with pytest.raises(SystemExit):
        train.parse_arguments(["--config", str(config)])
    assert "has settings that are no flags: learning_rat" in capsys.readouterr().err


def test_settings_of_the_file_are_checked_like_flags(train, tmp_path, capsys):
    config = tmp_path / "settings.yaml"
    config.write_text("head: mlp")
    with pytest.raises(SystemExit):
        train.parse_arguments(["--config", str(config), "--output_dir", str(tmp_path)])
    assert "invalid choice: 'mlp'" in capsys.readouterr().err
    config.write_text("lora_target_modules: [q_proj, v_proj]\nlr_scheduler_kwargs: {num_cycles: 2}\nseed: 3\n")
    _, model, _, training = train.parse_arguments(["--config", str(config)])
    assert (model.lora_target_modules, training.lr_scheduler_kwargs, training.seed) == (
        ["q_proj", "v_proj"],
        {"num_cycles": 2},
        3,
    )


@pytest.mark.parametrize("config", sorted((EXAMPLES / "configs").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_recipe_can_be_read(config, train):
    train.parse_arguments(["--config", str(config)])


def test_mistakes_are_found_before_anything_is_trained(train, tmp_path, capsys):
    def fails_with(*flags):
        with pytest.raises(SystemExit) as stopped:
            train.main(["--output_dir", str(tmp_path / "output"), "--use_cpu", "true", *map(str, flags)])
        assert not list(tmp_path.glob("output/sasrec/*"))
        return f"{stopped.value} {capsys.readouterr().err}"

    (tmp_path / "short.txt").write_text("u1 a b\nu2 b\n")
    (tmp_path / "log.txt").write_text("u1 a b c\nu2 b c a\n")
    log = ("--dataset", tmp_path / "log.txt")
    assert "no validation target" in fails_with("--dataset", tmp_path / "short.txt")
    assert "--max_targets must be at least 1, not 0" in fails_with(*log, "--max_targets", 0)
    assert "--shuffle_histories is a share of the histories" in fails_with(*log, "--shuffle_histories", 2)
    assert "--sasrec_shuffle_histories is a share" in fails_with(*log, "--sasrec_shuffle_histories", -1)
    assert f"--base_model {tmp_path} cannot be used" in fails_with(*log, "--base_model", tmp_path)
    assert "leave out --item_embeddings" in fails_with(*log, "--model", "sasrec", "--item_embeddings", "vectors.npy")
    with pytest.raises(ValueError, match="max_target"):  # no guessing what a flag may mean
        train.main([*map(str, log), "--max_target", "3"])


@pytest.mark.slow
def test_the_adapter_trains_with_gradient_checkpointing_and_sasrec_without(log):
    flags = ["--dataset", log / "log.txt", "--output_dir", log / "checkpointed", "--gradient_checkpointing", "true"]
    assert "| E4SRec " in run(EXAMPLES / "train.py", *flags, *QUICK)


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
def test_training_leaves_cards_of_both_models(trained, log):
    output, _ = trained
    facts = json.loads((output / "training.json").read_text())
    sequences = load_sequences(str(log / "log.txt"))
    assert facts["data"]["sha256"] == sequences_sha256(sequences)
    assert (facts["data"]["name"], facts["data"]["users"]) == ("log.txt", 80)
    assert [len(stage["curve"]) for stage in facts["stages"].values()] == [2, 1]
    assert list(facts["popularity_skew"]["rows"]) == ["training data", "test targets", "SASRec", "E4SRec"]
    assert (facts["settings"]["made_base_hidden_size"], facts["settings"]["dataset"]) == (32, "log.txt")
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
def test_a_data_set_with_titles_hands_them_on(log):
    world = make_demo_world(n_users=60, n_items=50)
    save_dataset(world.sequences, log / "prepared", titles=world.titles)
    flags = ["--dataset", log / "prepared", "--model", "sasrec", "--output_dir", log / "titled", "--rank_test", "false"]
    run(EXAMPLES / "train.py", *flags, *QUICK)
    assert json.loads((log / "titled" / "sasrec" / "item_titles.json").read_text()) == world.titles
    text = (log / "titled" / "sasrec" / "README.md").read_text()
    assert "No figures: no test targets have been ranked." in text
    assert AutoTokenizer.from_pretrained(log / "titled" / "sasrec").convert_ids_to_tokens(2) == next(iter(world.titles))


@pytest.mark.slow
def test_training_on_a_prepared_folder_says_so_and_takes_its_splits(tmp_path):
    rows = [(f"u{n % 40}", f"i{(n * 7 + n // 40) % 23}", 1000 * (n // 40)) for n in range(400)]
    log = tmp_path / "log.csv"
    log.write_text("user_id,item_id,timestamp\n" + "".join(f"{user},{item},{time}\n" for user, item, time in rows))
    prepare("table", [log], tmp_path / "prepared", split="time", targets="last")
    command = [EXAMPLES / "train.py", *QUICK, "--dataset", tmp_path / "prepared", "--model", "sasrec"]
    for streaming in ("false", "true"):
        out = tmp_path / streaming
        run(*command, "--output_dir", out, "--streaming", streaming, HF_DATASETS_CACHE=str(tmp_path / "cache"))
        facts = json.loads((out / "sasrec" / "training.json").read_text())["data"]
        assert facts["split"]["kind"] == "time"
        assert facts["interactions"] == 400
        card = (out / "sasrec" / "README.md").read_text()
        assert "Split at points in time: validation from 1970-01-01T02:13:20Z, test from 1970-01-01T02:30:00Z" in card
        assert "Leave-one-out" not in card
    shown = run(EXAMPLES / "evaluate.py", tmp_path / "false" / "sasrec", "--dataset", tmp_path / "prepared")
    assert "prepared: a prepared data set in a folder, split time" in shown


@pytest.mark.slow
def test_the_folder_recommends_in_an_environment_without_the_package(trained):
    output, _ = trained
    assert not (output / "sample_recommendations.json").exists()  # a real user's history stays out of the folder
    history = ["B0007", "B0011"]
    recommended = re.findall(r"B\d{4}", run(EXAMPLES / "recommend.py", output, "--history", *history))
    sample = {"history": history, "recommended": recommended}
    (output / "sample_recommendations.json").write_text(json.dumps(sample))
    (output / "item_titles.json").write_text(json.dumps({f"B{n:04d}": f"Book {n}" for n in range(50)}))
    printed = run(EXAMPLES / "load_without_package.py", output)
    assert "The same ten as the trained model gave." in printed
    assert "Do you wish to run" not in printed
    assert "transformers_modules" in printed
    again = run(EXAMPLES / "recommend.py", output, "--history", *sample["history"])
    assert re.findall(r"B\d{4}", again) == sample["recommended"]
    assert all(f"{item}  Book {int(item[1:])}" in again for item in sample["recommended"])
    refused = run(EXAMPLES / "recommend.py", output, "--history", "nonsense", expect_failure=True)
    assert "1 item id(s) are not in the catalogue: 'nonsense'" in refused
    refused = run(EXAMPLES / "recommend.py", output, "--history", *history, "--top_k", 0, expect_failure=True)
    assert "top_k must be between 1 and the 50 items of the catalogue, not 0" in refused


@pytest.mark.slow
def test_evaluating_the_folder_gives_the_figures_of_training(trained, log):
    output, _ = trained
    printed = run(EXAMPLES / "evaluate.py", output, "--dataset", log / "log.txt", "--json")
    found = json.loads(printed[printed.index("\n{") :])[str(output)]["metrics"]
    assert found == json.loads((output / "evaluation.json").read_text())["full"]["E4SRec"]["metrics"]
    sampled = run(EXAMPLES / "evaluate.py", output, "--dataset", log / "log.txt", "--negatives", 9, "--include_seen")
    assert "ranked among 9 sampled negatives, seen items kept" in sampled


@pytest.mark.slow
def test_item_vectors_can_come_from_a_trained_sasrec_and_a_run_can_be_resumed(trained, log):
    output, _ = trained
    arguments = ["--dataset", log / "log.txt", *QUICK, "--item_embeddings", output / "sasrec", "--output_dir"]
    nothing = run(
        EXAMPLES / "train.py", *arguments, log / "second", "--resume_from_checkpoint", "true", expect_failure=True
    )
    assert "there is no checkpoint in" in nothing
    text = run(EXAMPLES / "train.py", *arguments, log / "second")
    assert "| SASRec " in text
    assert not (log / "second" / "sasrec").exists()
    refused = run(EXAMPLES / "train.py", *arguments, log / "second", expect_failure=True)
    assert "second holds checkpoints of an earlier run" in refused
    resumed = run(EXAMPLES / "train.py", *arguments, log / "second", "--resume_from_checkpoint", "true")
    assert resumed[resumed.index("| model") :] == text[text.index("| model") :]


@pytest.mark.slow
def test_each_stage_shuffles_as_its_own_flag_says(train, log, tmp_path, monkeypatch):
    found = []

    class Remembering(train.RankingTrainer):
        def __init__(self, model, *args, **kwargs):
            super().__init__(model, *args, **kwargs)
            found.append((type(model).__name__, self.data_collator.shuffle_histories))

    monkeypatch.setattr(train, "RankingTrainer", Remembering)
    flags = ["--shuffle_histories", 0.25, "--sasrec_shuffle_histories", 0.75, "--rank_test", "false"]
    train.main(
        [*map(str, ["--dataset", log / "log.txt", "--output_dir", tmp_path, "--use_cpu", "true", *QUICK, *flags])]
    )
    assert found == [("SASRecModel", 0.75), ("E4SRecModel", 0.25)]
