"""``e4srec recommend``."""

import json

from tests.cli.running import fail, run


def test_it_prints_place_score_item_and_title(folder, hub_here):
    (folder / "item_titles.json").write_text('{"item 5": "Five"}')
    lines = run("recommend", folder, "item 3", "item 7", "--top-k", "28").splitlines()
    assert [line.split(".")[0].strip() for line in lines] == [str(place) for place in range(1, 29)]
    assert any(line.endswith("item 5  Five") for line in lines)
    assert not any("item 3" in line.split("  ")[-1].split() for line in lines)
    assert len(run("recommend", folder, "item 3", "--include-seen").splitlines()) == 10
    assert len(run("recommend", folder, "item 3", "no such", "--skip-unknown").splitlines()) == 10


def test_as_json_it_is_what_the_pipeline_gives(folder, hub_here):
    (folder / "item_titles.json").write_text('{"item 5": "Fünf"}')
    words = ["recommend", folder, "item 3", "item 7", "--top-k", "28"]
    found = json.loads(run(*words, "--json"))
    assert [set(item) for item in found] == [{"item", "score", "title"}] * 28
    assert [item["title"] for item in found if item["item"] == "item 5"] == ["Fünf"]
    lines = [f"{place:3}. {item['score']:8.3f}  {item['item']}" for place, item in enumerate(found, start=1)]
    assert [line.removesuffix("  Fünf") for line in run(*words).splitlines()] == lines


def test_underscores_and_dashes_are_the_same_in_flags_and_not_in_values(folder, hub_here):
    dashes = run("recommend", folder, "item 3", "--top-k", "4", "--include-seen")
    assert run("recommend", folder, "item 3", "--top_k=4", "--include_seen") == dashes
    assert "'a_b'" in fail("recommend", folder, "a_b")
    assert "'--a_b'" in fail("recommend", folder, "--", "--a_b")


def test_what_a_user_can_mend_is_one_line(folder, hub_here):
    assert fail("recommend", folder, "no such").startswith("e4srec: 1 item id(s) are not in the catalogue: 'no such'")
    assert "top_k must be between 1 and" in fail("recommend", folder, "item 3", "--top_k", 0)
    assert "org/nothing" in fail("recommend", "org/nothing", "item 3")


def test_an_adapter_is_no_base(folder, hub_here):
    message = fail("recommend", folder, "item 3", "--base-model", folder)
    assert f"{folder} is an adapter (model_type e4srec), not a base" in message
