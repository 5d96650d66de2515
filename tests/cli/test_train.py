"""``e4srec train``: mistakes are found before anything is trained, each in one line."""

import pytest

from tests.cli.running import fail


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "log.txt").write_text("u1 a b c\nu2 b c a\n")
    (tmp_path / "data").mkdir()
    yield tmp_path
    assert not list(tmp_path.glob("**/model.safetensors"))


def mistake(*flags, status=1):
    return fail("train", "--output_dir", "out", "--use_cpu", "true", *flags, status=status).removeprefix("e4srec: ")


@pytest.mark.parametrize(
    ("name", "content", "columns"),
    [
        ("ratings.csv", "userId,movieId,rating,timestamp\n1,2,5,964982703\n", ("userId", "movieId", "timestamp")),
        ("events.tsv", "when\tCustomer ID\tproduct_id\n3\ta\tb\n", ("'Customer ID'", "product_id", "…")),
        ("ratings.dat", "1::2::5::964982703\n2::3::5::964982704\n", ("1", "2", "4")),
        ("log.jsonl", '{"user_id": "a", "item_id": "b", "timestamp": 3}\n', ("user_id", "item_id", "timestamp")),
    ],
)
def test_a_raw_log_names_the_command_that_prepares_it(name, content, columns, workplace):
    (workplace / name).write_text(content)
    user, item, time = columns
    assert mistake("--dataset", name) == (
        f"{name} is a raw log, one interaction a row. Prepare it with: e4srec prepare table {name} "
        f"--user-column {user} --item-column {item} --time-column {time} --output data/{name.partition('.')[0]} "
        f"(and then train on data/{name.partition('.')[0]})"
    )


def test_mistyped_flags_get_a_suggestion_also_in_a_file(workplace):
    assert mistake("--datset", "log.txt", status=2) == "--datset: did you mean --dataset?"
    assert mistake("--lora-alfa", "3", status=2) == "--lora-alfa: did you mean --lora-alpha?"
    assert mistake("--qwertyuiop=1", status=2) == "--qwertyuiop: there is no such setting"
    assert mistake("log.txt", status=2) == "what is log.txt meant for? Only flags are taken."
    (workplace / "typo.yaml").write_text("learning_rat: 1e-2\n")
    shown = mistake("--config", "typo.yaml", status=2)
    assert shown == "typo.yaml has settings that are no flags: learning_rat: did you mean learning_rate?"


def test_a_file_of_settings_that_cannot_be_read_is_one_line(workplace):
    assert mistake("--config", "nope.yaml", status=2) == "--config: no such file: nope.yaml"
    (workplace / "broken.yaml").write_text("seed: 1\nhead: [mlp\n")
    assert "--config: broken.yaml, line 3 is not YAML: " in mistake("--config", "broken.yaml", status=2)
    (workplace / "list.yaml").write_text("- seed\n")
    assert "must have lines of the form 'name: value'" in mistake("--config", "list.yaml", status=2)


def test_mistyped_files_and_folders_are_not_looked_for_on_the_hub(workplace):
    assert mistake("--dataset", "lgo.txt") == "no such file: lgo.txt; did you mean log.txt?"
    assert mistake("--dataset", "data/beauty") == "no such folder: data/beauty"
    assert mistake("--dataset", "beauty") == "no such folder: beauty (on the Hub, a name is org/name)"
    assert mistake("--dataset", "log.txt", "--base_model", "./qwen") == "no such folder: ./qwen"
    assert mistake("--dataset", "log.txt", "--item_embeddings", "it.npy") == "no such file: it.npy"
    assert mistake("--dataset", "log.txt", "--negatives", "negatives.txt") == "no such file: negatives.txt"


def test_values_that_no_training_can_use(workplace):
    (workplace / "short.txt").write_text("u1 a b\nu2 b\n")
    assert "no validation target" in mistake("--dataset", "short.txt")
    assert "--max_targets must be at least 1, not 0" in mistake("--max_targets", 0, status=2)
    assert "--shuffle_histories must be at least 0 and at most 1, not 2.0" in mistake(
        "--shuffle_histories", 2, status=2
    )
    assert "--sasrec_shuffle_histories must be" in mistake("--sasrec_shuffle_histories", -1, status=2)
    assert "--base_model data cannot be used" in mistake("--dataset", "log.txt", "--base_model", "data")
    vectors = ["--model", "sasrec", "--item_embeddings", "vectors.npy"]
    assert "leave out --item_embeddings" in mistake(*vectors, status=2)
    assert "--max_target: did you mean --max_targets?" in mistake("--max_target", 3, status=2)  # nothing is guessed
