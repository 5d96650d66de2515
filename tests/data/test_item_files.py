"""Files of items, and of pairs of a user and an item."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from e4srec_hf.data.item_files import UserItems, lists_pairs, read_items

PAIRS = [("u 1", "a"), ("v", "b c"), ("u 1", "b c"), ("u 1", "a")]


def write(tmp_path, suffix, pairs=PAIRS):
    path = tmp_path / f"items{suffix}"
    users, items = map(list, zip(*pairs, strict=True))
    if suffix == ".parquet":
        pq.write_table(pa.table({"item_id": items, "more": items, "user_id": users}), path)
    elif suffix == ".csv":
        path.write_text("user_id,more,item_id\n" + "".join(f"{user},1,{item}\n" for user, item in pairs))
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps({"item_id": item, "user_id": user}) + "\n" for user, item in pairs))
    else:
        path.write_text("\ufeff" + "\n".join(items))
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl", ".txt", ""])
def test_items_come_once_and_in_their_order(tmp_path, suffix):
    path = write(tmp_path, suffix)
    assert read_items(path) == ["a", "b c"]
    assert lists_pairs(path) == (suffix not in (".txt", ""))


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_each_user_has_the_items_of_its_pairs(tmp_path, suffix):
    pairs = UserItems(write(tmp_path, suffix))
    assert [pairs.of(user) for user in ("u 1", "v", "nobody")] == [["a", "b c"], ["b c"], []]
    assert pairs.items == ["a", "b c"]
    assert pairs.sha256 != UserItems(write(tmp_path, suffix, PAIRS[1:])).sha256


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "", "a.txt is empty: there are no items"),
        ("a.txt", "a\n\nb\n", "a.txt, line 2: an id is empty or blank"),
        ("a.txt", "a\tb\n", "a.txt, line 1: the id 'a.tb' has control characters"),
        ("a.csv", "item\na\n", r"a.csv has no column \['item_id'\]; its columns are \['item'\]. A table of items has"),
        ("a.jsonl", '{"item_id": 1.5}\n', r"a.jsonl, line 1: 1.5 \(float\) is no id"),
        ("a.jsonl", '{"item_id": "a"}\n{"item": "a"}\n', r"a.jsonl, line 2: the object has no \['item_id'\]"),
        ("a.parquet", "x", "a.parquet cannot be read as Parquet"),
    ],
)
def test_what_lists_no_items_is_named_by_its_row(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        read_items(tmp_path / name)


def test_missing_files_and_pairs_are_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_items(tmp_path / "none.txt")
    for suffix in (".csv", ".jsonl", ".parquet", ".txt"):
        with pytest.raises(FileNotFoundError, match=rf"no such file: .*none\{suffix}"):
            lists_pairs(tmp_path / f"none{suffix}")
    with pytest.raises(ValueError, match="lists no pairs"):
        UserItems(write(tmp_path, ".txt"))
    (tmp_path / "none.csv").write_text("user_id,item_id\n")
    with pytest.raises(ValueError, match=r"none\.csv is empty: there are no pairs"):
        UserItems(tmp_path / "none.csv")
    (tmp_path / "bad.txt").write_bytes(b"a\n\xff\n")
    with pytest.raises(ValueError, match=r"bad\.txt is not UTF-8 text"):
        read_items(tmp_path / "bad.txt")
