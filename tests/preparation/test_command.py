"""``e4srec prepare``, as a user runs it."""

import json

import pytest
from typer.testing import CliRunner

from e4srec_hf.cli import main
from e4srec_hf.cli.app import app
from tests.preparation.raw_logs import sequences_of, titles_of


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log.tsv"
    rows = [f"u{n % 4}\titem {n % 6}\t{1_600_000_000 + n}\tThe {n % 6}" for n in range(48)]
    path.write_text("\n".join(["who\twhat\twhen\ttitle", *rows, "u0\titem 0", ""]))
    return path


COLUMNS = ["--user-column", "who", "--item-column", "what", "--time-column", "when", "--title-column", "title"]


def run(*arguments):
    return CliRunner().invoke(app, ["prepare", *map(str, arguments)], catch_exceptions=False)


def test_it_prints_steps_sizes_ties_and_invalid_records(log, tmp_path):
    out = tmp_path / "out"
    result = run(
        "table", log, *COLUMNS, "--output", out, "--max-rejected", "0.05", "--split", "ratio", "--memory-limit", "300MB"
    )
    assert result.exit_code == 0, result.output
    text = " ".join(result.output.split())
    assert "1 × expected 4 fields log.tsv, line 50: u0 item 0" in text.replace("\\t", " ")
    assert "reading 49 48" in text
    assert (
        "users 4 items 6 interactions 48 density 50.0000% mean history 12.0 longest history 12 repeats 75.00%" in text
    )
    assert "rows in test 4" in text
    assert "No test target depends on ties" in text
    assert text.endswith(f"Wrote {out}")
    assert len(sequences_of(out)["u0"]) == 12
    assert titles_of(out)["item 3"] == "The 3"
    assert json.loads((out / "preparation.json").read_text())["options"]["split"] == "ratio"


def test_options_override_a_preset(tmp_path):
    raw = tmp_path / "reviews.json"
    raw.write_text(
        "".join(
            json.dumps(
                {"user_id": f"u{n % 5}", "business_id": f"b{n % 7}", "stars": 4, "date": f"2019-01-01 00:{n:02}:00"}
            )
            + "\n"
            for n in range(60)
        )
    )
    assert (
        run("yelp", raw, "--preset", "s3rec", "--end", "2019-01-01 00:49:00", "--output", tmp_path / "out").exit_code
        == 0
    )
    options = json.loads((tmp_path / "out" / "preparation.json").read_text())["options"]
    assert (options["start"], options["end"]) == ("2019-01-01 00:00:00", "2019-01-01 00:49:00")
    assert sum(map(len, sequences_of(tmp_path / "out").values())) == 50


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table", "nowhere.csv"], "nowhere.csv: there is no such file"),
        (["tabel", "log.tsv"], "Unknown source 'tabel'"),
        (["yelp", "log.tsv", "--user-column", "who"], "only for the sources 'table' and 'sql'"),
        (["table", "log.tsv"], "log.tsv has no column 'user_id'"),
        (["table", "log.tsv", *COLUMNS], "1 of 49 records are invalid (2.0%)"),
    ],
)
def test_mistakes_of_the_user_are_reported_without_a_traceback(arguments, message, log, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["e4srec", "prepare", *arguments, "--output", "out"])
    with pytest.raises(SystemExit, match="1"):
        main()
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.tsv"]


def test_help_lists_the_sources():
    assert all(name in run("--help").output for name in ("amazon-2014", "lastfm-1k", "online-retail", "table"))
