"""``e4srec recommend --input … --output …``."""

import io
import json
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from e4srec_hf.cli import main
from e4srec_hf.data import sequences_from_table
from e4srec_hf.hub.datasets import push_dataset, save_dataset
from tests.cli.running import fail, run, run_both

USERS = {"u1": ["item 3", "item 7"], "u2": ["item 5"], "u3": ["no such"], "u4": []}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def table(tmp_path):
    pq.write_table(pa.table({"user_id": list(USERS), "item_ids": list(USERS.values())}), tmp_path / "users.parquet")
    return tmp_path / "users.parquet"


@pytest.fixture
def recommended(folder):
    """What the command prints for each history alone."""

    def one(user, *words):
        items = json.loads(run("recommend", folder, *USERS[user], "--json", "--skip-unknown", *words))
        return {
            "user_id": user,
            "item_ids": [item["item"] for item in items],
            "titles": [item["title"] or None for item in items],
            "scores": pytest.approx([item["score"] for item in items], abs=1e-5),
            "fallback": user in ("u3", "u4"),
            "unknown_items": int(user == "u3"),
        }

    return lambda *words, users=USERS: [one(user, *words) for user in users]


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_table_gives_each_user_what_its_history_gives(folder, table, recommended, tmp_path):
    (folder / "item_titles.json").write_text('{"item 5": "Five"}')
    out = tmp_path / "recs.parquet"
    printed = run("recommend", folder, "--input", table, "--output", out, "--top-k", 20)
    assert pq.read_table(out).to_pylist() == recommended("--top-k", "20")
    assert printed.splitlines() == [
        f"{out}: recommendations for 4 users",
        "1 ids of their histories are not in the catalogue and were ignored",
        "2 users have no known item and got what the prompt alone gives",
    ]
    assert "'Five'" in str(pq.read_table(out).to_pylist())
    assert f"{out} exists: --overwrite replaces it" in fail("recommend", folder, "--input", table, "--output", out)
    run("recommend", folder, "--input", table, "--output", out, "--top-k", 3, "--include-seen", "--overwrite")
    assert pq.read_table(out).to_pylist() == recommended("--top-k", "3", "--include-seen")


def test_standard_input_and_output_are_json_lines(folder, recommended, monkeypatch, capsysbinary):
    lines = "".join(json.dumps({"user_id": user, "item_ids": items}) + "\n" for user, items in USERS.items())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    main(["recommend", str(folder), "--input", "-", "--output", "-", "--top-k", "4"])
    captured = capsysbinary.readouterr()
    assert [json.loads(line) for line in captured.out.splitlines()] == recommended("--top-k", "4")
    assert b"2 users have no known item and got what the prompt alone gives" in captured.err


def test_a_prepared_data_set_is_continued_after_its_last_item(folder, hub_here, recommended, tmp_path):
    users = ["u1", "u2"]
    columns = {"user_id": users, "item_ids": [USERS[user] for user in users]}
    sequences = sequences_from_table(Dataset.from_dict(columns))
    save_dataset(sequences, tmp_path / "prepared")
    push_dataset(sequences, "org/readers")
    for source in (tmp_path / "prepared", "org/readers"):
        run("recommend", folder, "--input", source, "--output", tmp_path / "recs.jsonl", "--overwrite")
        assert lines_of(tmp_path / "recs.jsonl") == recommended(users=users)


def test_candidates_and_excluded_items_are_files(folder, table, recommended, tmp_path):
    out = tmp_path / "recs.jsonl"
    (tmp_path / "items.txt").write_text("".join(f"item {number}\n" for number in range(12)))
    (tmp_path / "out.csv").write_text("item_id\nitem 1\nitem 2\n")
    flags = ["--candidates", tmp_path / "items.txt", "--exclude", tmp_path / "out.csv", "--top-k", "12"]
    run("recommend", folder, "--input", table, "--output", out, *flags)
    rows = lines_of(out)
    assert rows == recommended(*flags)
    chosen = {f"item {number}" for number in range(12)} - {"item 1", "item 2"}
    assert [set(row["item_ids"]) for row in rows] == [chosen - set(USERS[row["user_id"]]) for row in rows]
    (tmp_path / "pairs.csv").write_text("user_id,item_id\nu1,item 4\nu2,item 1\n")
    flags[3] = tmp_path / "pairs.csv"
    run("recommend", folder, "--input", table, "--output", out, *flags, "--overwrite")
    pairs = {"u1": {"item 4"}, "u2": {"item 1"}}
    everything = {f"item {number}" for number in range(12)}
    for row in lines_of(out):
        user = row["user_id"]
        assert set(row["item_ids"]) == everything - set(USERS[user]) - pairs.get(user, set())
    assert "lists pairs, and a history has no user" in fail("recommend", folder, "item 3", *flags, status=2)
    (tmp_path / "items.txt").write_text("item 1\nno such\n")
    message = fail("recommend", folder, "--input", table, "--output", tmp_path / "x.csv", *flags[:2])
    assert message.startswith("e4srec: 1 item id(s) are not in the catalogue: 'no such'")
    run("recommend", folder, "--input", table, "--output", tmp_path / "x.csv", *flags[:2], "--skip-unknown")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["item 1", "--input", "users.csv", "--output", "-"], "--input: give a history or --input, not both"),
        (["--input", "users.csv"], "--input: where do the recommendations go? Give --output too"),
        (["item 1", "--output", "recs.csv"], "--output: it is for a table of users: give one, with --input"),
        (["item 1", "--overwrite"], "--overwrite: it is for a table of users"),
        (["item 1", "--item-separator", "|"], "--item-separator: it is for a table of users"),
        (["--input", "users.csv", "--output", "-", "--json"], "--json: it is for a history"),
    ],
)
def test_options_that_do_not_go_together_are_refused(folder, words, message):
    assert message in fail("recommend", folder, *words, status=2)


def test_mistakes_in_the_table_are_told_before_the_model_is_loaded(table, tmp_path):
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\nu,i,1\n")
    (tmp_path / "text.csv").write_text("user_id,item_ids\nu,a b\n")
    out = tmp_path / "recs.csv"
    nowhere = ["recommend", "org/nothing", "--output", out, "--input"]
    assert "has no column ['item_ids']" in fail(*nowhere, tmp_path / "log.csv")
    assert "say what stands between two items (--item-separator)" in fail(*nowhere, tmp_path / "text.csv")
    assert "no such file" in fail(*nowhere, tmp_path / "none.csv")
    assert "ends in .parquet, .csv" in fail("recommend", "org/nothing", "--input", table, "--output", "recs.txt")
    assert "--output: it is the input" in fail(
        "recommend", "org/nothing", "--input", table, "--output", table, "--overwrite", status=2
    )
    assert not out.exists()


def test_a_model_without_a_prompt_says_that_it_has_nothing_for_some(tmp_path, item_tokenizer, table):
    from e4srec_hf import SASRecConfig, SASRecModel
    from e4srec_hf.training.saving import save_trained

    model = SASRecModel(SASRecConfig(vocab_size=len(item_tokenizer), hidden_size=8, num_hidden_layers=1))
    save_trained(model, item_tokenizer, tmp_path / "sasrec")
    out, _ = run_both("recommend", tmp_path / "sasrec", "--input", table, "--output", tmp_path / "recs.jsonl")
    assert "2 users have no known item and got no items: the model has no prompt" in out
    assert [(len(row["item_ids"]), row["fallback"]) for row in lines_of(tmp_path / "recs.jsonl")] == [
        *[(10, False)] * 2,
        *[(0, True)] * 2,
    ]
    assert "there is nothing to read" in fail("recommend", tmp_path / "sasrec", "no such", "--skip-unknown")
