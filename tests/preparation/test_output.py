"""The output: complete or absent, the same bytes for the same input, readable, pushable."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from huggingface_hub import DatasetCard, HfApi

from e4srec_hf.cards.dataset_card import refresh_dataset_card
from e4srec_hf.data import load_sequences
from e4srec_hf.data.opening import load_training_data
from e4srec_hf.data.prepared import load_items
from e4srec_hf.hub.datasets import push_dataset
from e4srec_hf.preparation import PreparationError, make_table, prepare
from tests.preparation.raw_logs import bytes_of, prepare_all, rejected_of, sequences_of

FILES = {
    "README.md",
    "dataset.json",
    "items.parquet",
    "leave_one_out/test.parquet",
    "leave_one_out/train.parquet",
    "leave_one_out/validation.parquet",
    "preparation.json",
    "preparation.png",
    "sequences.parquet",
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def log(tmp_path):
    """Six users with five to ten items, two per day, and an invalid record."""
    path = tmp_path / "log.csv"
    rows = [(f"u{user}", f"i{(user + n) % 12}", 86_400 * (n // 2)) for user in range(6) for n in range(5 + user)]
    text = "".join(f"{user},{item},{time},the {item}\n" for user, item, time in rows)
    path.write_text("user_id,item_id,timestamp,title\n" + text + "u0,,5,x\n")
    return path


TABLE = make_table(title_column="title")


@pytest.mark.parametrize("as_parquet", [False, True])
def test_the_card_says_where_titles_are_from(as_parquet, tmp_path):
    (tmp_path / "u.data").write_text("1\t7\t5\t881250949\n1\t8\t5\t881250950\n")
    (tmp_path / "u.item").write_text("7|Seven (1995)|01-Jan-1995||x" + "|0" * 19 + "\n")
    (tmp_path / "a*b.csv").write_text("movieId,title,genres\n7,Seven,Drama\n")
    facts = prepare_all("movielens", [tmp_path / "u.data"], tmp_path / "out", metadata=tmp_path / "u.item").facts
    assert facts["titles_from"] == "column 2 of u.item"
    assert facts["files"][0]["columns"] == {"viewer": "1", "item": "2", "rating": "3", "time": "4"}
    assert "\nTitles are from column 2 of u.item.\n" in (tmp_path / "out" / "README.md").read_text()
    named = {"metadata_item_column": "id", "metadata_title_column": "*name*"}
    items = pa.table({"id": ["7", "8"], "*name*": ["Seven", "Eight"]})
    if as_parquet:
        pq.write_table(items, tmp_path / "items.parquet")
    prepare_all(
        *("movielens", [tmp_path / "u.data"], tmp_path / "table"),
        metadata=tmp_path / "items.parquet" if as_parquet else items,
        **named,
    )
    name = "items.parquet" if as_parquet else "pyarrow.Table"
    assert f"\nTitles are from column &#42;name&#42; of {name}.\n" in (tmp_path / "table" / "README.md").read_text()
    assert load_training_data(tmp_path / "table").facts["titles_from"] == f"column *name* of {name}"
    prepare_all("movielens", [tmp_path / "u.data"], tmp_path / "none")
    assert "\nItems have no titles.\n" in (tmp_path / "none" / "README.md").read_text()
    assert "titles_from" not in load_training_data(tmp_path / "none").facts


def test_titles_of_the_log_and_of_files_of_items_are_told_apart(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"user_id": "u", "item_id": "a", "timestamp": 5, "what": "A"}\n')
    for number in range(1, 6):
        (tmp_path / f"items{number}.csv").write_text(f"item_id,what\na,A{number}\n")
    table = make_table(title_column="what")
    found = prepare_all(table, tmp_path / "log.jsonl", tmp_path / "log").facts["titles_from"]
    assert found == "column what of log.jsonl"
    found = prepare_all(table, tmp_path / "log.jsonl", tmp_path / "out", metadata=tmp_path / "items*.csv").facts
    files = ", ".join(f"column what of items{number}.csv" for number in range(1, 6))
    assert found["titles_from"] == f"{files} and 1 more"


def test_files_in_the_folder(log, tmp_path):
    facts = prepare_all(TABLE, [log], tmp_path / "out", license="mit").facts
    assert set(bytes_of(tmp_path / "out")) == FILES | {"rejected.jsonl"}
    assert json.loads((tmp_path / "out" / "preparation.json").read_text()) == facts
    assert facts["files"][0]["name"] == "log.csv"
    assert facts["steps"][0] == {"step": "reading", "rows_in": 46, "rows_out": 45}
    assert facts["test_targets_in_ties"] == pytest.approx(3 / 6)  # an even number of items, two a day
    assert (tmp_path / "out" / "preparation.png").read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "out" / "README.md").read_text()
    assert "50.00% of the test targets depend on this order" in text
    assert facts["files"][0]["sha256"] in text
    assert "| reading | 46 | 45 |" in text
    assert "\nTitles are from column title of log.csv.\n" in text
    assert DatasetCard(text).data.license == "mit"
    assert "](preparation.png)" in text
    assert "Columns: owner user_id, item item_id, time timestamp, title title." in text
    assert [c["config_name"] for c in DatasetCard(text).data.configs] == ["sequences", "leave_one_out", "items"]
    refresh_dataset_card(tmp_path / "out", "org/name")
    text = (tmp_path / "out" / "README.md").read_text()
    assert 'load_dataset("org/name", "leave_one_out")' in text
    assert "With e4srec-hf:" in text
    assert "\ne4srec train --dataset org/name --base_model Qwen/Qwen3-0.6B --output_dir outputs/mine\n" in text


def test_it_is_read_by_datasets_and_by_the_package(log, tmp_path):
    prepare_all(TABLE, [log], tmp_path / "out")
    out = str(tmp_path / "out")
    expected = sequences_of(out)
    assert dict(zip(*[load_sequences(out)[column][:] for column in ("user_id", "item_ids")], strict=True)) == expected
    splits = load_dataset(out, "leave_one_out")
    assert splits["test"]["item_ids"][:] == list(expected.values())
    assert load_dataset(out, "items", split="train")["item_id"][:] == list(load_items(out))
    data = load_training_data(out)
    assert data.kind == "a prepared data set in a folder, split leave_one_out"
    assert data.train["item_ids"][:] == [items[:-2] for items in expected.values()]
    assert data.titles["i3"] == "the i3"
    assert data.sequences["item_ids"][:] == list(expected.values())


def test_the_commands_of_the_card_run_beside_its_folder(log, tmp_path, monkeypatch):
    prepare_all(TABLE, [log], tmp_path / "zip")
    text = (tmp_path / "zip" / "README.md").read_text()
    assert "\n\nIn the folder that holds this one:\n\n```python\n" in text
    assert "With e4srec-hf, in the folder that holds this one:\n" in text
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(text.split("```python\n")[1].split("```")[0], names)
    assert dict(zip(names["sequences"]["user_id"], names["sequences"]["item_ids"], strict=True)) == sequences_of("zip")
    words = text.split("```bash\n")[1].split("```")[0].split()
    assert words[:3] == ["e4srec", "train", "--dataset"]
    assert load_training_data(words[3]).kind == "a prepared data set in a folder, split leave_one_out"


def test_the_same_bytes_again_whatever_the_threads(log, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepare_all(TABLE, [log], "out", threads=1)
    first = bytes_of(tmp_path / "out")
    prepare_all(TABLE, [log], "out", threads=4, memory_limit="500MB", overwrite=True)
    assert bytes_of(tmp_path / "out") == first


def test_times_in_the_future_are_judged_by_the_clock_or_by_now(log, tmp_path):
    with log.open("a") as file:
        file.write(f"u0,i1,{int(time.time()) + 3 * 86_400},x\nu0,i1,{int(time.time())},x\n")
    bare = {"oldest": "1970-01-01", "max_rejected": 1, "user_core": 0, "item_core": 0}
    prepare(TABLE, [log], tmp_path / "out", **bare)
    assert [reason for _, reason in rejected_of(tmp_path / "out")] == ["no item", "time in the future"]
    prepare(TABLE, [log], tmp_path / "later", now="2999-01-01", **bare)
    assert [reason for _, reason in rejected_of(tmp_path / "later")] == ["no item"]


def test_too_many_invalid_records_write_nothing(log, tmp_path):
    with pytest.raises(
        PreparationError, match=r"1 of 46 records are invalid \(2.2%\)(.|\n)*log.csv, line 47"
    ) as raised:
        prepare(TABLE, [log], tmp_path / "sub" / "out")
    assert "--max-rejected" in str(raised.value)
    assert list((tmp_path / "sub").iterdir()) == []
    prepare_all(TABLE, [log], tmp_path / "sub" / "out", max_rejected=0.03)
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["out"]


@pytest.mark.parametrize("core", [10**9, 10**20, 10**45])
def test_a_core_beyond_all_counts_is_answered_at_once(core, log, tmp_path):
    """Users have five to ten interactions each, of twelve items."""
    before = time.process_time()
    with pytest.raises(PreparationError, match=rf"--user-core {core} alone leaves no user. --user-core 10 --item-core"):
        prepare_all(TABLE, [log], tmp_path / "out", user_core=core)
    with pytest.raises(PreparationError, match=rf"--item-core {core} alone leaves no item. --user-core 1 --item-core"):
        prepare_all(TABLE, [log], tmp_path / "out", user_core=1, item_core=core)
    assert time.process_time() - before < 10


def test_existing_folders_are_replaced_only_on_request(log, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(PreparationError, match="not a prepared data set"):
            prepare_all(TABLE, [log], out, overwrite=overwrite)
    assert bytes_of(out) == {"mine.txt": b"mine"}
    (out / "mine.txt").unlink()
    prepare_all(TABLE, [log], out)
    before = bytes_of(out)
    with pytest.raises(PreparationError, match="--overwrite"):
        prepare_all(TABLE, [log], out)
    with pytest.raises(PreparationError, match="None of 46 records remain"):
        prepare_all(TABLE, [log], out, overwrite=True, user_core=99)
    assert bytes_of(out) == before
    prepare_all(TABLE, [log], out, overwrite=True, split="ratio", max_rejected=1)
    assert set(bytes_of(out)) == {name.replace("leave_one_out", "ratio") for name in FILES} | {"rejected.jsonl"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ties": "coin"}, "ties must be one of"),
        ({"start": "tomorrow"}, "start: 'tomorrow' is not a date"),
        ({"start": "2020-01-02", "end": "2020-01-01"}, "is after end"),
        ({"split": "time", "test_from": "2020-01-01"}, "together"),
        ({"test_from": "2020-01-01", "validation_from": "2019-01-01"}, "require split"),
        ({"split": "time", "validation_share": 0.6, "test_share": 0.5}, "with a sum below 1"),
        ({"min_rating": 3}, "no ratings"),
        ({"preset": "s3rec"}, "its presets: none"),
        ({"targets": "all"}, "requires split='time'"),
        ({"ties_seed": 1}, "requires ties='shuffle'"),
        (
            {"split": "time", "validation_from": "1970-01-02", "test_from": "2050-01-01"},
            "has 0; the last interaction is at",
        ),
        ({"owner": "invoice"}, "owner must be one of user"),
        ({"encoding": "klingon"}, "encoding: unknown encoding"),
        ({"encoding": "punycode"}, "not an encoding of files"),
        ({"time_format": "%Q"}, "time_format '%Q'"),
        ({"memory_limit": "much"}, "memory_limit must be a size like"),
        ({"memory_limit": "1.2.3GB"}, "memory_limit must be a size like"),
        ({"color": "red"}, "Unknown options: color"),
        ({"metadata": "nowhere.csv"}, "no such file"),
    ],
)
def test_invalid_options_are_reported_and_nothing_is_written(options, message, log, tmp_path):
    with pytest.raises(PreparationError, match=message):
        prepare(
            TABLE,
            [log],
            tmp_path / "out",
            **{"oldest": "1970-01-01", "max_rejected": 1, "user_core": 0, "item_core": 0} | options,
        )
    assert not (tmp_path / "out").exists()


def test_files_that_cannot_be_read_as_a_whole(log, tmp_path):
    import gzip

    cases = {
        "cut.csv.gz": (gzip.compress(log.read_bytes())[:-20], "corrupt or truncated"),
        "bad.csv.bz2": (b"BZh9" + bytes(50), "bad.csv.bz2.* could not be read to its end"),
        "log.zip": (b"PK\x03\x04" + bytes(50), "log.zip: the compressed file or archive is corrupt or truncated"),
        "log.parquet": (b"PAR1" + bytes(50), "not a readable Parquet file"),
        "empty.csv": (b"\n", "files are empty"),
        "other.csv": (b"a,b\n1,2\n", "has no column 'user_id', 'item_id', 'timestamp'"),
        "log.zst": (b"\x28\xb5\x2f\xfd" + bytes(9), "Zstandard"),
    }
    for name, (content, message) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(PreparationError, match=message):
            prepare_all("table", [tmp_path / name], tmp_path / "out")
    with pytest.raises(PreparationError, match="is a folder"):
        prepare_all("table", [tmp_path], tmp_path / "out")
    with pytest.raises(PreparationError, match="given twice"):
        prepare_all("table", [log, log], tmp_path / "out")
    (tmp_path / "twin.csv").write_bytes(log.read_bytes())
    with pytest.raises(PreparationError, match=r"twin\.csv and .*log\.csv have the same content"):
        prepare_all("table", [log, tmp_path / "twin.csv"], tmp_path / "out")
    with pytest.raises(PreparationError, match="Unknown source 'amazon'; expected one of amazon-2014, "):
        prepare_all("amazon", [log], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_files_by_pattern_in_an_archive_and_over_http(log, tmp_path):
    import functools
    import http.server
    import threading
    import zipfile

    parts = tmp_path / "parts"
    parts.mkdir()
    header, *rows = log.read_text().splitlines()
    for number in range(3):
        (parts / f"{number}.csv").write_text("\n".join([header, *rows[number * 16 : (number + 1) * 16]]))
    with zipfile.ZipFile(tmp_path / "logs.zip", "w") as archive:
        archive.write(log, "log.csv")
    prepare_all(TABLE, [log], tmp_path / "plain")
    expected = sequences_of(tmp_path / "plain")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://user:secret@127.0.0.1:{server.server_port}/log.csv?token=secret"
        for name, paths in {
            "pattern": [f"{parts}/*.csv"],
            "archive": [f"zip://log.csv::{tmp_path / 'logs.zip'}"],
            "http": [address],
        }.items():
            facts = prepare_all(TABLE, paths, tmp_path / name).facts
            assert sequences_of(tmp_path / name) == expected, name
            assert len(rejected_of(tmp_path / name)) == 1
            assert "secret" not in json.dumps(facts)
        server.shutdown()


def test_a_prepared_data_set_goes_to_the_hub_and_comes_back(log, tmp_path, hub_here):
    prepare_all(TABLE, [log], tmp_path / "out", split="time", targets="all", validation_share=0.3, test_share=0.3)
    assert (tmp_path / "out" / "rejected.jsonl").is_file()
    push_dataset(tmp_path / "out", "org/log", license="mit")
    assert "rejected.jsonl" not in HfApi().list_repo_files("org/log", repo_type="dataset")
    data = load_training_data("org/log")
    assert data.kind == "a prepared data set on the Hub, split time"
    here = load_training_data(tmp_path / "out")
    assert {name: rows.to_dict() for name, rows in data.splits.items()} == {
        name: rows.to_dict() for name, rows in here.splits.items()
    }
    assert (data.items, data.titles) == (here.items, here.titles)
    assert data.facts | {"hub_id": None, "name": "out"} == here.facts
    assert data.facts["hub_id"] == "org/log"


def test_raw_files_come_from_a_data_set_on_the_hub(log, tmp_path, hub_here):
    api = HfApi()
    api.create_repo("org/raw", repo_type="dataset")
    api.upload_file(path_or_fileobj=log, path_in_repo="raw/log.csv", repo_id="org/raw", repo_type="dataset")
    facts = prepare_all(TABLE, ["hf://datasets/org/raw/raw/log.csv"], tmp_path / "out").facts
    prepare_all(TABLE, [log], tmp_path / "plain")
    assert sequences_of(tmp_path / "out") == sequences_of(tmp_path / "plain")
    assert facts["files"][0]["name"] == "hf://datasets/org/raw/raw/log.csv"


SCRIPT = """
import sys
from e4srec_hf.preparation import make_table, prepare
prepare(make_table(), [sys.argv[1]], sys.argv[2], user_core=2, item_core=2, oldest="1970-01-01", overwrite=True)
"""


@pytest.mark.slow
def test_killed_at_any_moment_it_leaves_nothing_and_a_rerun_gives_the_same_bytes(tmp_path):
    log = tmp_path / "log.csv"
    with log.open("w") as file:
        file.write("user_id,item_id,timestamp\n")
        file.writelines(f"user{n * 7919 % 20011},item{n * 104729 % 5003},{n}\n" for n in range(400_000))
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}

    def start(out):
        return subprocess.Popen([sys.executable, "-P", "-c", SCRIPT, str(log), str(out)], env=environment, cwd=tmp_path)

    whole = tmp_path / "one" / "out"
    assert start(whole).wait() == 0
    expected = bytes_of(whole)
    out = tmp_path / "two" / "out"
    stages = {"starts": "*", "reads": "scratch", "writes": "new/sequences.parquet", "ends": "new/preparation.json"}
    for stage, file in stages.items():
        process = start(out)
        while not any((out.parent / ".out.preparing").glob(file)) and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if process.returncode == 0:  # it was faster than the signal
            assert bytes_of(out).keys() == expected.keys()
        assert not out.exists() or bytes_of(out).keys() == expected.keys(), stage
    assert (out.parent / ".out.preparing").exists()  # something was left by the last one
    assert start(out).wait() == 0
    assert bytes_of(out) == expected
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    for moment in (0.3, 1.0, 2.0, 4.0):  # the data set that is there stays whole
        process = start(out)
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert start(out).wait() == 0 if not out.exists() else True
        assert bytes_of(out)["sequences.parquet"] == expected["sequences.parquet"]


def test_a_link_to_a_data_set_stays_a_link_and_bytes_do_not_depend_on_the_path(log, tmp_path, monkeypatch):
    (tmp_path / "deep").mkdir()
    prepare_all(TABLE, [log], tmp_path / "deep" / "out")
    before = bytes_of(tmp_path / "deep" / "out")
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "out")
    monkeypatch.chdir(tmp_path)
    prepare_all(TABLE, [log], "link", overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert bytes_of(tmp_path / "deep" / "out") == before
    assert str(tmp_path).encode() not in before["README.md"]


def test_valid_metadata_does_not_lower_the_fraction_of_invalid_records(log, tmp_path):
    items = tmp_path / "items.csv"
    items.write_text("item_id,title\n" + "".join(f"i{n},X\n" for n in range(1000)) + ",nameless\n")
    with pytest.raises(PreparationError, match="1 of 46 records are invalid"):
        prepare("table", [log], tmp_path / "out", metadata=items)
    facts = prepare_all("table", [log], tmp_path / "out", metadata=items, max_rejected=0.05).facts
    assert facts["rejected"] == {"no item": 2}
    assert rejected_of(tmp_path / "out") == [(47, "no item"), (1002, "no item")]


def test_a_log_that_cannot_be_split_in_time_is_refused(tmp_path):
    (tmp_path / "x.csv").write_text("user_id,item_id,timestamp\n" + "".join(f"u{n % 3},i{n},7\n" for n in range(30)))
    with pytest.raises(PreparationError, match="would both start at"):
        prepare_all("table", [tmp_path / "x.csv"], tmp_path / "out", split="time")
    with pytest.raises(PreparationError, match="No training interactions"):
        prepare_all(
            "table",
            [tmp_path / "x.csv"],
            tmp_path / "out",
            split="time",
            validation_from="1970-01-01",
            test_from="1970-01-02",
        )
    assert not (tmp_path / "out").exists()


def test_two_runs_for_one_folder_exclude_each_other(log, tmp_path):
    from e4srec_hf.preparation.workplace import workplace

    with workplace(tmp_path / "out", overwrite=False), pytest.raises(PreparationError, match="by another run"):
        prepare_all(TABLE, [log], tmp_path / "out")


def test_a_run_killed_between_two_renames_is_repaired(log, tmp_path):
    out = tmp_path / "out"
    prepare_all(TABLE, [log], out)
    before = bytes_of(out)
    (tmp_path / ".out.preparing").mkdir()
    out.rename(tmp_path / ".out.preparing" / "old")
    (tmp_path / ".out.preparing" / ".new.half").mkdir()  # a file was being written beside
    with pytest.raises(PreparationError, match="--overwrite"):
        prepare_all(TABLE, [log], out)
    assert bytes_of(out) == before
    assert not Path(tmp_path, ".out.preparing").exists()


MOUNTED = """
import os, sys
from pathlib import Path
from e4srec_hf.preparation import PreparationError
from e4srec_hf.preparation import workplace
from tests.preparation.test_output import TABLE, prepare_all
volume, log, plain = map(Path, sys.argv[1:])
(volume / "lost+found").mkdir()
for overwrite in (False, True):
    prepare_all(TABLE, [log], volume, overwrite=overwrite)
rename = Path.rename
def die(path, target):
    renamed = rename(path, target)
    if path.parent.name == workplace.MOVING:
        os._exit(9)
    return renamed
if not os.fork():
    Path.rename = die
    prepare_all(TABLE, [log], volume, overwrite=True)
assert os.wait()[1] == 9 << 8
try:
    prepare_all(TABLE, [log], volume)
except PreparationError as error:
    assert "--overwrite" in str(error), error
def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
assert content(volume) == content(plain), content(volume).keys() ^ content(plain).keys()
"""


def test_a_mount_point_is_prepared_into(log, tmp_path):
    volume, plain = tmp_path / "volume", tmp_path / "plain" / "volume"
    volume.mkdir()
    if subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", volume], capture_output=True).returncode:
        pytest.skip("this account may not mount")
    prepare_all(TABLE, [log], plain)
    done = subprocess.run(
        [
            *("unshare", "-m", "sh", "-c", 'mount -t tmpfs tmpfs "$2" && exec "$0" -c "$1" "$2" "$3" "$4"'),
            *(sys.executable, MOUNTED, volume, log, plain),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
