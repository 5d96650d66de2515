"""A table of users in, a table of recommendations out."""

import csv
import json
import os
import subprocess
import sys
import textwrap

import pyarrow.parquet as pq
import pytest

from e4srec_hf.data.item_files import UserItems
from e4srec_hf.data.rows import Row
from e4srec_hf.serving import recommend_table, tables
from e4srec_hf.training.saving import save_trained
from tests.serving.conftest import one_at_a_time


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(tables, "USERS_A_PART", 16)
    monkeypatch.setattr("e4srec_hf.serving.table_files.TABLES_A_ROW_GROUP", 2)


def rows_of(users):
    return [Row(f"row {number}", user, items) for number, (user, items) in enumerate(users.items())]


def read(path):
    """The rows of a table of recommendations."""
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    text = ("user_id",)
    return [{name: cell if name in text else json.loads(cell) for name, cell in row.items()} for row in rows]


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_every_kind_of_file_has_what_the_model_recommends_to_one_user_at_a_time(
    recommender, users, titles, tmp_path, suffix
):
    path = tmp_path / f"recs{suffix}"
    counts = recommend_table(recommender, rows_of(users), path, top_k=5)
    expected = one_at_a_time(recommender, users, titles)
    assert read(path) == expected
    assert counts == (43, sum(row["fallback"] for row in expected), sum(row["unknown_items"] for row in expected))
    assert counts.fallback > 2
    assert os.listdir(tmp_path) == [path.name]


def test_a_parquet_file_has_few_row_groups_and_stated_types(recommender, users, tmp_path):
    recommend_table(recommender, rows_of(users), tmp_path / "recs.parquet")
    metadata = pq.read_metadata(tmp_path / "recs.parquet")
    assert [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)] == [32, 11]
    schema = pq.read_schema(tmp_path / "recs.parquet")
    assert schema.names == ["user_id", "item_ids", "titles", "scores", "fallback", "unknown_items"]
    assert str(schema.field("scores").type) == "list<element: float>"


def test_candidates_excluded_items_and_pairs_against_brute_force(recommender, users, titles, raw_ids, tmp_path):
    pairs = [(user, item) for n, user in enumerate(users) for item in raw_ids[n % 5 :: 5]]
    lines = "".join(f"{user},{item}\n" for user, item in [*pairs, ("not asked for", "item 1")])
    (tmp_path / "pairs.csv").write_text("user_id,item_id\n" + lines)
    recommend_table(
        recommender,
        rows_of(users),
        tmp_path / "recs.jsonl",
        top_k=5,
        exclude_seen=False,
        candidates=raw_ids[:25],
        exclude=["item 2"],
        exclude_pairs=UserItems(tmp_path / "pairs.csv"),
    )

    def keep(user, item):
        return item in raw_ids[:25] and item != "item 2" and (user, item) not in pairs

    assert read(tmp_path / "recs.jsonl") == one_at_a_time(recommender, users, titles, keep=keep, exclude_seen=False)


def test_ids_that_are_not_known_are_refused_among_the_items_and_ignored_on_request(recommender, users, tmp_path):
    for asked in ({"candidates": ["item 1", "no such"]}, {"exclude": ["no such"]}):
        with pytest.raises(ValueError, match=r"1 item id.s. are not in the catalogue: 'no such'"):
            recommend_table(recommender, rows_of(users), tmp_path / "recs.jsonl", **asked)
        recommend_table(recommender, rows_of(users), tmp_path / "recs.jsonl", **asked, on_unknown="unk", overwrite=True)
    with pytest.raises(ValueError, match="None of the candidates is in the catalogue"):
        recommend_table(recommender, rows_of(users), tmp_path / "x.jsonl", candidates=["no such"], on_unknown="unk")
    assert os.listdir(tmp_path) == ["recs.jsonl"]


def test_what_a_run_that_stopped_has_done_is_not_done_again(recommender, users, tmp_path, monkeypatch):
    recommend_table(recommender, rows_of(users), tmp_path / "whole.csv")

    def broken():
        yield from rows_of(users)[:40]
        raise ValueError("row 40 is no user")

    path = tmp_path / "recs.csv"
    with pytest.raises(ValueError, match="row 40"):
        recommend_table(recommender, broken(), path)
    assert not path.exists()
    asked, recommend = [], recommender.recommend
    monkeypatch.setattr(
        recommender, "recommend", lambda some, **options: asked.append(len(some)) or recommend(some, **options)
    )
    recommend_table(recommender, rows_of(users), path)
    assert sum(asked) == 43 - 32
    assert path.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["recs.csv", "whole.csv"]


def test_a_stopped_run_goes_on_with_its_own_settings_and_input_alone(recommender, users, tmp_path):
    def stopped(count=20):
        yield from rows_of(users)[:count]
        raise ValueError("stopped")

    path = tmp_path / "recs.jsonl"
    with pytest.raises(ValueError, match="stopped"):
        recommend_table(recommender, stopped(), path, top_k=3)
    for asked, name in (
        ({"top_k": 4}, "top_k"),
        ({"exclude_seen": False}, "exclude_seen"),
        ({"candidates": ["item 1"]}, "candidates"),
        ({"exclude": ["item 1"]}, "exclude"),
    ):
        with pytest.raises(ValueError, match=f"the beginning of a table with other settings .{name}.: go on with"):
            recommend_table(recommender, rows_of(users), path, **{"top_k": 3, **asked})
    recommender.titles["item 1"] = "Another title"
    with pytest.raises(ValueError, match=r"other settings \(model\)"):
        recommend_table(recommender, rows_of(users), path, top_k=3)
    del recommender.titles["item 1"]
    for other in (rows_of(users)[:10], rows_of(users)[1:], rows_of(users | {"user 3": ["item 1"]})):
        with pytest.raises(ValueError, match=r"for other users \(part 0 has others than 'user [01]'"):
            recommend_table(recommender, other, path, top_k=3)
    recommend_table(recommender, rows_of(users), path, top_k=4, overwrite=True)
    assert {len(row["item_ids"]) for row in read(path)} == {4}


def test_excluded_items_beside_excluded_pairs_are_settings_too(recommender, users, tmp_path):
    def stopped():
        yield from rows_of(users)[:20]
        raise ValueError("stopped")

    (tmp_path / "pairs.csv").write_text("user_id,item_id\nuser 1,item 4\n")
    path, pairs = tmp_path / "recs.jsonl", UserItems(tmp_path / "pairs.csv")
    with pytest.raises(ValueError, match="stopped"):
        recommend_table(recommender, stopped(), path, exclude=["item 2"], exclude_pairs=pairs)
    for asked, name in (
        ({"exclude": ["item 3"], "exclude_pairs": pairs}, "exclude"),
        ({"exclude": ["item 2"]}, "exclude_pairs"),
    ):
        with pytest.raises(ValueError, match=rf"other settings \({name}\)"):
            recommend_table(recommender, rows_of(users), path, **asked)


def test_what_gives_its_items_only_once_is_the_list_that_it_is_for_all_users(recommender, users, tmp_path):
    listed = {"candidates": ["item 1", "item 2", "item 4"], "exclude": ["item 2"]}
    recommend_table(recommender, rows_of(users), tmp_path / "lists.jsonl", **listed)
    recommend_table(
        recommender, rows_of(users), tmp_path / "once.jsonl", **{name: iter(items) for name, items in listed.items()}
    )
    assert (tmp_path / "once.jsonl").read_bytes() == (tmp_path / "lists.jsonl").read_bytes()
    assert {item for row in read(tmp_path / "once.jsonl") for item in row["item_ids"]} == {"item 1", "item 4"}


def test_what_is_no_choice_is_refused(recommender, users, tmp_path):
    with pytest.raises(ValueError, match="on_unknown must be"):
        recommend_table(recommender, rows_of(users), tmp_path / "recs.jsonl", on_unknown="drop")
    with pytest.raises(TypeError, match="Items must be a list of raw item ids"):
        recommend_table(recommender, rows_of(users), tmp_path / "recs.jsonl", exclude="item 1", on_unknown="unk")
    assert os.listdir(tmp_path) == []


def test_what_fits_of_a_stopped_run_is_kept_when_the_rest_is_replaced(recommender, users, tmp_path, monkeypatch):
    def stopped():
        yield from rows_of(users)
        raise ValueError("stopped")

    path = tmp_path / "recs.jsonl"
    changed = users | {"user 20": ["item 1"]}
    with pytest.raises(ValueError, match="stopped"):
        recommend_table(recommender, stopped(), path)
    with pytest.raises(ValueError, match=r"for other users \(there were more\)"):
        recommend_table(recommender, rows_of(users)[:16], path)
    with pytest.raises(ValueError, match="stopped"):
        recommend_table(recommender, stopped(), path)
    asked, recommend = [], recommender.recommend
    monkeypatch.setattr(
        recommender, "recommend", lambda some, **options: asked.extend(some) or recommend(some, **options)
    )
    recommend_table(recommender, rows_of(changed)[:32], path, overwrite=True)
    assert asked == [row.items for row in rows_of(changed)[16:32]]
    monkeypatch.undo()
    monkeypatch.setattr(tables, "USERS_A_PART", 16)
    recommend_table(recommender, rows_of(changed)[:32], tmp_path / "whole.jsonl")
    assert path.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_mistake_among_the_first_users_leaves_nothing_behind(recommender, users, tmp_path):
    def broken():
        yield rows_of(users)[0]
        raise ValueError("row 1 is no user")

    with pytest.raises(ValueError, match="row 1"):
        recommend_table(recommender, broken(), tmp_path / "recs.parquet")
    assert os.listdir(tmp_path) == []


def test_outputs_that_cannot_be_are_refused(recommender, users, tmp_path):
    (tmp_path / "there.csv").write_text("mine")
    (tmp_path / "folder.csv").mkdir()
    for name, error, message in (
        ("there.csv", FileExistsError, "there.csv exists: overwrite= replaces it"),
        ("folder.csv", IsADirectoryError, "folder.csv is a folder"),
        ("recs.xlsx", ValueError, r"expected a file that ends in \.parquet, \.csv"),
        ("there.csv/recs.csv", NotADirectoryError, "is no folder"),
    ):
        with pytest.raises(error, match=message):
            recommend_table(recommender, rows_of(users), tmp_path / name)
    assert (tmp_path / "there.csv").read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == ["folder.csv", "there.csv"]


def test_two_runs_do_not_write_one_file(recommender, users, tmp_path):
    def meanwhile():
        with pytest.raises(ValueError, match="is being written by another run"):
            recommend_table(recommender, rows_of(users), tmp_path / "recs.csv")
        yield from rows_of(users)

    recommend_table(recommender, meanwhile(), tmp_path / "recs.csv")
    assert len(read(tmp_path / "recs.csv")) == 43


def test_parts_that_are_damaged_are_made_again_or_make_no_table(recommender, users, tmp_path):
    def stopped():
        yield from rows_of(users)[:40]
        raise ValueError("stopped")

    recommend_table(recommender, rows_of(users), tmp_path / "whole.csv")
    path, part = tmp_path / "recs.csv", tmp_path / "recs.csv.parts" / "part-000000.parquet"

    def spoil_columns():  # and not the metadata, which is read first
        content = part.read_bytes()
        part.write_bytes(content[:4] + bytes(100) + content[104:])

    for spoil in (part.unlink, lambda: part.write_bytes(b"x"), spoil_columns):
        with pytest.raises(ValueError, match="stopped"):
            recommend_table(recommender, stopped(), path)
        spoil()
        if spoil is spoil_columns:
            with pytest.raises(ValueError, match=r"part-000000\.parquet is damaged .*: remove it, and go on"):
                recommend_table(recommender, rows_of(users), path)
            assert not path.exists()
            part.unlink()
        recommend_table(recommender, rows_of(users), path)
        assert path.read_bytes() == (tmp_path / "whole.csv").read_bytes()
        path.unlink()


#: Runs the table in forks of itself. Each kills itself before the n-th time that it renames or removes a file.
KILLED = textwrap.dedent(
    """
    import json, os, signal, sys
    from pathlib import Path
    import torch
    from e4srec_hf.data.users import read_users
    from e4srec_hf.serving import Recommender, tables

    torch.set_num_threads(1)
    tables.USERS_A_PART = 16
    model, source, folder, suffix = sys.argv[1:]
    recommender = Recommender.load(model, device="cpu")

    def run(path, kill_at=None):
        pid = os.fork()
        if pid:
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        steps = 0
        def hook(event, arguments):
            nonlocal steps
            if event in ("os.rename", "os.remove") and str(path) in str(arguments[0]):
                steps += 1
                if steps == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(hook)
        try:
            tables.recommend_table(recommender, read_users(source), path, top_k=5)
        except FileExistsError:
            os._exit(3)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)

    whole = Path(folder, "whole" + suffix)
    assert run(whole) == 0
    killed = 0
    while True:
        path = Path(folder, f"killed-{killed}" + suffix)
        if run(path, killed + 1) == 0:
            break
        was_there = path.exists()
        assert not was_there or path.read_bytes() == whole.read_bytes(), killed  # half a table is never there
        again = run(path)
        # once its parts are being removed, the table is whole, and only said to be there
        assert again == 0 or (was_there and again == 3), (killed, again)
        assert path.read_bytes() == whole.read_bytes(), killed
        killed += 1
        assert not Path(f"{path}.parts").exists()
    print(killed)
    """
)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_a_run_that_is_killed_at_any_step_is_finished_by_the_next(
    make_model, item_tokenizer, users, base_dir, tmp_path, suffix
):
    save_trained(make_model(base_dir), item_tokenizer, tmp_path / "model")
    source = tmp_path / "users.jsonl"
    source.write_text("".join(json.dumps({"user_id": user, "item_ids": items}) + "\n" for user, items in users.items()))
    (tmp_path / "out").mkdir()
    command = [sys.executable, "-c", KILLED, tmp_path / "model", source, tmp_path / "out", suffix]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) >= 10
    assert [row["user_id"] for row in read(tmp_path / "out" / f"whole{suffix}")] == list(users)
