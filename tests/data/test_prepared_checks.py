"""A prepared data set that was changed or lost files is refused, in one line that names the file."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from e4srec_hf.data import make_demo_world
from e4srec_hf.data.opening import load_training_data
from e4srec_hf.hub.datasets import save_dataset


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "ds"
    world = make_demo_world(n_users=20, n_items=20)
    save_dataset(world.sequences, folder, titles=world.titles)
    return folder


@pytest.fixture
def folder(whole, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    shutil.copytree(whole, tmp_path / "ds")
    return tmp_path / "ds"


def refused(folder, streaming=False):
    with pytest.raises((ValueError, OSError)) as caught:
        load_training_data(folder, streaming=streaming)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    assert "prepare the data set again" in message
    return message


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"users": -1}, "'users' is -1"),
        ({"users": True}, "'users' is True"),
        ({"items": "20"}, "'items' is '20'"),
        ({"interactions": None}, "'interactions' is None"),
        ({"sha256": 3}, "'sha256' is 3"),
        ({"users": 19}, "has 20 rows, but dataset.json says 19"),
        ({"items": 19}, "has 20 items, but dataset.json says 19"),
        ({"splits": {}}, "'train' is missing"),
        ({"splits": []}, "'splits' is []"),
        ({"splits": {"train": 20, "validation": 20, "test": 7}}, "has 20 rows, but dataset.json says 7"),
        ({"split": "x"}, "'split' is 'x'"),
        ({"split": {}}, "'split' is {}"),
        ({"split": {"kind": "../ds/leave_one_out"}}, "the name of a folder"),
        ({"split": {"kind": ".."}}, "the name of a folder"),
        ({"split": {"kind": "time"}}, "is missing"),
    ],
)
@pytest.mark.parametrize("streaming", [False, True], ids=["mapped", "streamed"])
def test_facts_that_cannot_be(folder, changes, problem, streaming):
    facts = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(facts | changes))
    assert problem in refused(folder, streaming)


def test_an_empty_description(folder):
    (folder / "dataset.json").write_text("{}")
    assert "'users' is missing" in refused(folder)


@pytest.mark.parametrize("name", ["items.parquet", "sequences.parquet", "leave_one_out/test.parquet"])
@pytest.mark.parametrize("streaming", [False, True], ids=["mapped", "streamed"])
def test_a_file_that_is_missing_damaged_or_cut(folder, name, streaming):
    rows = pq.read_table(folder / name)
    for content in (None, b"no Parquet", rows.slice(0, 5)):
        (folder / name).unlink(missing_ok=True)
        if isinstance(content, pa.Table):
            pq.write_table(content, folder / name)
        elif content is not None:
            (folder / name).write_bytes(content)
        assert name in refused(folder, streaming)


@pytest.mark.parametrize("bad", ["a\0", " ", "", None, "unknown"], ids=repr)
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_items_that_are_no_ids_or_unknown(folder, bad, split):
    path = folder / "leave_one_out" / f"{split}.parquet"
    rows = pq.read_table(path).to_pydict()
    rows["item_ids"][3] = [*rows["item_ids"][3], bad]
    pq.write_table(pa.table(rows), path)
    assert str(path) in refused(folder, streaming=split != "train")


@pytest.mark.parametrize("bad", ["a\x9f", "\u3000", None], ids=repr)
def test_users_that_are_no_ids(folder, bad):
    path = folder / "leave_one_out" / "train.parquet"
    rows = pq.read_table(path).to_pydict()
    rows["user_id"][3] = bad
    pq.write_table(pa.table(rows), path)
    assert str(path) in refused(folder)


@pytest.mark.parametrize("bad", [[], None], ids=repr)
def test_users_without_items(folder, bad):
    path = folder / "leave_one_out" / "train.parquet"
    rows = pq.read_table(path).to_pydict()
    rows["item_ids"][3] = bad
    pq.write_table(pa.table(rows), path)
    assert "a user has no items" in refused(folder)


def test_the_whole_sequences_are_checked_when_they_are_read(folder):
    path = folder / "sequences.parquet"
    rows = pq.read_table(path).to_pydict()
    rows["item_ids"][3] = ["unknown"]
    pq.write_table(pa.table(rows), path)
    data = load_training_data(folder)
    with pytest.raises(ValueError, match=r"the item 'unknown' is not in items.parquet"):
        _ = data.sequences
