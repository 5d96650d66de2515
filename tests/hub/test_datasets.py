"""A prepared data set as a repo: what is pushed is what is read again, in one commit, with a card that says it."""

import json
import re
from types import SimpleNamespace

import pytest
from datasets import Dataset, disable_progress_bars, load_dataset
from huggingface_hub import DatasetCard, HfApi

from e4srec_hf.cards.dataset_card import refresh_dataset_card
from e4srec_hf.data import leave_one_out, load_sequences, make_demo_world, sequences_sha256
from e4srec_hf.data.prepared import load_items
from e4srec_hf.hub.datasets import push_dataset, save_dataset
from tests.cards.test_model_card import code_of, sections, tables

disable_progress_bars()

TITLES = {"b": "Bears | and\nothers", "a": "{{ card_data }}", "never read": "Dust"}


@pytest.fixture
def sequences():
    return Dataset.from_dict(
        {"user_id": ["u1", "u2", "u3"], "item_ids": [["a", "b", "c"], ["c", "a", "b", "é x"], ["a"]]}
    )


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def test_what_is_saved_is_read_again(sequences, tmp_path):
    folder = tmp_path / "data"
    save_dataset(sequences, folder, titles=TITLES)
    again = load_sequences(str(folder))
    assert again.to_dict() == sequences.to_dict()
    assert load_sequences(str(folder / "sequences.parquet")).to_dict() == sequences.to_dict()
    assert sequences_sha256(again) == sequences_sha256(sequences)
    splits, expected = load_dataset(str(folder), "leave_one_out"), leave_one_out(sequences)
    assert {name: rows.to_dict() for name, rows in splits.items()} == {
        name: rows.to_dict() for name, rows in expected.items()
    }
    items = load_dataset(str(folder), "items", split="train")
    assert items["item_id"][:] == ["b", "a", "never read", "c", "é x"]
    assert items["title"][:] == [*TITLES.values(), None, None]
    assert load_items(folder) == TITLES | {"c": None, "é x": None}


def test_the_card_has_the_sizes_the_hash_and_the_splits(sequences, tmp_path):
    folder = tmp_path / "data"
    save_dataset(
        sequences, folder, name="a|b\n", titles=TITLES, source="From [here](https://example.org).", license="mit"
    )
    text = (folder / "README.md").read_text()
    found = sections(text)
    assert list(found)[1:] == ["Sizes", "Load", "Train on it", "Splits and protocol", "Limits and bias"]
    assert all(found.values())
    assert "From [here](https://example.org)." in text
    sizes, splits = tables(text)
    assert sizes[2:] == [
        ["users", "3"],
        ["items", "5"],
        ["interactions", "8"],
        ["interactions a user", "2.7"],
        ["items with a title", "3"],
        ["SHA-256", sequences_sha256(sequences)],
    ]
    assert splits[2:] == [["train", "3"], ["validation", "2"], ["test", "2"]]
    assert "1 users have fewer than 3 items and only train." in text
    card = DatasetCard(text)
    assert DatasetCard(str(card)).content == text
    assert card.data.pretty_name == "a|b\n"
    assert (card.data.license, card.data.size_categories) == ("mit", "n<1K")
    assert [config["config_name"] for config in card.data.configs] == ["sequences", "leave_one_out", "items"]
    refresh_dataset_card(folder, "org/name")
    again = (folder / "README.md").read_text()
    assert 'load_dataset("org/name", split="train")' in again
    assert "e4srec train --dataset org/name " in again
    assert DatasetCard(again).data.license == "mit"
    assert tables(again) == tables(text)


def test_the_code_on_the_card_runs(sequences, tmp_path):
    folder = tmp_path / 'a "quoted" folder'
    save_dataset(sequences, folder)
    names = {}
    exec(code_of((folder / "README.md").read_text()), names)
    assert names["sequences"].to_dict() == sequences.to_dict()
    assert list(names["splits"]) == ["train", "validation", "test"]
    assert names["items"]["item_id"][:] == ["a", "b", "c", "é x"]


def test_times_travel_along(sequences, tmp_path):
    timed = sequences.add_column("timestamps", [[1, 2, 3], [4, 5, 6, 7], [8]])
    save_dataset(timed, tmp_path / "data")
    assert load_sequences(str(tmp_path / "data"), timestamps_column="timestamps").to_dict() == timed.to_dict()


def test_the_demo_world_comes_back_with_its_catalogue_in_order(tmp_path):
    world = make_demo_world(n_users=10, n_items=50)
    save_dataset(world.sequences, tmp_path / "data", titles=world.titles)
    assert list(load_items(tmp_path / "data").items()) == list(world.titles.items())


def test_other_data_sets_have_no_catalogue(sequences, tmp_path):
    sequences.save_to_disk(tmp_path / "saved")
    assert load_items(tmp_path / "saved") == {}
    (tmp_path / "log.txt").write_text("u a\n")
    assert load_items(tmp_path / "log.txt") == {}
    (tmp_path / "other").mkdir()
    sequences.to_parquet(tmp_path / "other" / "items.parquet")
    assert load_items(tmp_path / "other") == {}


def test_what_is_no_data_set_is_refused(sequences, tmp_path):
    with pytest.raises(ValueError, match=r"no column \['user_id'\]"):
        save_dataset(sequences.remove_columns("user_id"), tmp_path / "data")
    with pytest.raises(ValueError, match="the data set is empty"):
        save_dataset(sequences.select([]), tmp_path / "data")
    with pytest.raises(FileNotFoundError, match=r"holds no dataset.json: write the data set with save_dataset"):
        refresh_dataset_card(tmp_path)
    assert not (tmp_path / "data").exists()


def test_a_data_set_is_pushed_in_one_commit(sequences, tmp_path, monkeypatch):
    calls = []

    def record(name):
        def call(self, repo_id, *args, **kwargs):
            calls.append((name, repo_id, kwargs))
            for operation in args[0] if args else ():
                file = tmp_path / "hub" / operation.path_in_repo
                file.parent.mkdir(parents=True, exist_ok=True)
                with operation.as_file() as content:
                    file.write_bytes(content.read())
            return SimpleNamespace(commit_url="https://hub/commit")

        return call

    for name in ("create_repo", "create_branch", "create_commit"):
        monkeypatch.setattr(HfApi, name, record(name))
    address = push_dataset(sequences, "org/name", titles=TITLES, private=True, revision="v1", license="mit")
    assert address == "https://hub/commit"
    assert [(name, repo_id) for name, repo_id, _ in calls] == [
        ("create_repo", "org/name"),
        ("create_branch", "org/name"),
        ("create_commit", "org/name"),
    ]
    assert all(options["repo_type"] == "dataset" for _, _, options in calls)
    assert calls[0][2]["private"] is True
    assert calls[2][2]["revision"] == "v1"
    files = {path.relative_to(tmp_path / "hub").as_posix() for path in (tmp_path / "hub").rglob("*") if path.is_file()}
    assert files == {
        "README.md",
        "dataset.json",
        "items.parquet",
        "sequences.parquet",
        *(f"leave_one_out/{split}.parquet" for split in ("train", "validation", "test")),
    }
    assert load_sequences(str(tmp_path / "hub")).to_dict() == sequences.to_dict()
    assert load_items(tmp_path / "hub")["never read"] == "Dust"
    text = (tmp_path / "hub" / "README.md").read_text()
    assert re.search(r"^# name$", text, re.MULTILINE)
    assert str(tmp_path) not in text
    assert json.loads((tmp_path / "hub" / "dataset.json").read_text())["sha256"] == sequences_sha256(sequences)
