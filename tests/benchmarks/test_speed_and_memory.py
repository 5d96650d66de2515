"""The benchmarks of speed and memory run and compare equal numbers. How long it takes is not tested."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from e4srec_hf import E4SRecModel, save_trained
from e4srec_hf.data import build_item_tokenizer, catalogue_of, load_sequences
from e4srec_hf.training.tiny_base import make_tiny_base
from tests.benchmarks.running import BENCHMARKS, run

TINY = ["--layers", "1", "--hidden_size", "64"]


@pytest.mark.slow
def test_training_throughput_compares_equal_numbers(log, tmp_path):
    result = run(
        "training_throughput", "--dataset", log, *TINY, "--users", 16, "--targets_per_batch", 16, results=tmp_path
    )
    assert all(difference < 1e-5 for difference in result["largest_relative_difference"].values())
    assert result["targets"] == pytest.approx(16 * 10.5, rel=0.2)
    assert set(result["packed_against"]) == {"one row a target, 16 a batch"}


@pytest.mark.slow
def test_a_base_that_is_given_is_measured_on_some_of_the_targets(log, tmp_path):
    base = make_tiny_base(tmp_path / "reader", hidden_size=32)
    flags = ["--dataset", log, "--base-model", base, "--users", 16, "--targets_per_batch", 8, "--plain_batches", 2]
    result = run("training_throughput", *flags, "--rounds", 1, results=tmp_path / "results")
    assert (tmp_path / "results" / "training_throughput-reader-cpu.json").is_file()
    assert result["settings"]["base"]["hidden_size"] == result["settings"]["hidden_size"] == 32
    assert str(tmp_path) not in json.dumps(result)
    per_second = result["targets_per_second"]
    ratio = per_second["packed"] / per_second["one row a target, 8 a batch"]
    assert result["packed_against"]["one row a target, 8 a batch"] == pytest.approx(ratio)


@pytest.mark.slow
def test_recommend_throughput_compares_identical_recommendations(log, tmp_path):
    result = run("recommend_throughput", "--dataset", log, *TINY, "--rounds", 1, results=tmp_path)
    assert result["users_with_identical_recommendations"] == result["users_compared"] == 40
    per_second, passes = result["users_per_second"], result["forward_passes_of_the_base"]
    assert passes.keys() == per_second.keys() - {"base alone, one forward pass a user"}
    assert passes["alone"] * per_second["alone"] == pytest.approx(per_second["base alone, one forward pass a user"])


@pytest.mark.slow
def test_sessions_are_compared_with_equal_scores(tmp_path):
    flags = ["--items", 50, "--history", 6, "--clicks", 3, "--users", 2, "--rounds", 1]
    result = run("sessions", *TINY, *flags, results=tmp_path)
    for window, bytes_of_an_item in (("with room", 2 * 64 * 4), ("full", 0)):
        found = result[f"window {window}"]
        assert found.pop("bytes_of_a_session") == 6 * bytes_of_an_item
        assert len(found) == 2
        for task in found.values():
            assert task["largest_relative_difference_of_scores"] < 1e-5
            against = {way: task["seconds"][way] / task["seconds"]["session"] for way in task["session_against"]}
            assert task["session_against"] == pytest.approx(against)


@pytest.mark.slow
def test_evaluation_is_measured_over_all_users(log, tmp_path):
    result = run("evaluation_share", "--dataset", log, *TINY, results=tmp_path)
    assert result["users_ranked"] == result["users_trained_on"] == 40
    taken = result["seconds"]
    assert result["full_ranking_of_an_epoch"] == taken["full ranking"] / taken["one packed epoch"]


@pytest.mark.slow
def test_a_profile_counts_all_time_and_no_slot_twice(log, tmp_path):
    result = run("profile_step", "--dataset", log, *TINY, "--rounds", 1, results=tmp_path)
    assert 0.5 < sum(result["share_of_time"].values()) <= 1
    assert result["time_of_a_step_as_it_is"]["as it is"] == 1
    one_pass, several = result["slots_for_one_that_is_filled"].values()
    assert one_pass >= several >= 1


@pytest.mark.slow
def test_a_large_base_is_measured_on_a_cpu_as_it_would_be_on_a_gpu(log, tmp_path):
    flags = ["--device", "cpu", *TINY, "--users", 16, "--users_to_recommend", 16, "--product_size", 128, "--bf16_only"]
    (base,) = run("large_base", "--dataset", log, *flags, results=tmp_path)["bases"]
    assert base["packed"] is True
    assert base["targets"] == pytest.approx(16 * 10.5, rel=0.2)
    assert base["tokens_per_second"] > base["targets_per_second"]


@pytest.mark.slow
def test_the_picture_shows_the_results(tmp_path):
    pytest.importorskip("matplotlib")
    pictures = []
    for number, factor in enumerate((1, 1, 2)):
        results = tmp_path / str(number)
        shutil.copytree(BENCHMARKS / "results", results)
        recommending = json.loads((results / "recommend_throughput-cpu.json").read_text())
        recommending["users_per_second"]["alone"] *= factor
        (results / "recommend_throughput-cpu.json").write_text(json.dumps(recommending))
        command = [sys.executable, str(BENCHMARKS / "picture.py"), "--results", str(results)]
        subprocess.run([*command, "--picture", str(results / "speed.png")], check=True)
        pictures.append((results / "speed.png").read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux to measure memory")
def test_a_step_over_a_large_catalogue_holds_a_part_of_its_scores(tmp_path):
    flags = ["--items", 100_000, "--users", 64, "--users_to_recommend", 1024, "--processes", 1]
    result = run("large_catalogue", *flags, results=tmp_path)
    shares = {(m["head"], m["what"]): m["memory_of_the_naive_way"] for m in result["measurements"]}
    assert len(shares) == 4
    assert all(share < 0.6 for share in shares.values()), shares


@pytest.mark.slow
def test_a_table_that_is_killed_on_its_way_is_the_same_and_equals_a_loop(log, tmp_path):
    tokenizer = build_item_tokenizer(catalogue_of(load_sequences(log)))
    base = make_tiny_base(tmp_path / "base", hidden_size=32)
    save_trained(E4SRecModel.from_base(base, torch.randn(len(tokenizer), 8)), tokenizer, tmp_path / "reader")
    flags = ["--model", tmp_path / "reader", "--users", 5000, "--alone", 40, "--kills", 2, "--interval", 0.05]
    result = run("recommend_table", *flags, results=tmp_path / "results")
    assert result["same_file"] is result["every_user_once"] is True
    assert [1024 <= users < 5000 for users in result["killed"]["killed_at_users"]] == [True] * 2
    assert result["plain_loop"]["users_with_identical_items"] == result["plain_loop"]["users_compared"] == 40
    ratio = result["table"]["users_a_cpu_second"] / result["plain_loop"]["users_a_second"]
    assert result["table_against_plain_loop"] == pytest.approx(ratio)
    assert result["table"]["peak_bytes"] > 0
