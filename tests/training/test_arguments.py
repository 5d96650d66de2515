"""The settings of a training: defaults, then the file, then flags; and the recipes that come along."""

from pathlib import Path

import pytest

from e4srec_hf.training.arguments import DEMO_RECIPE, UsageError, parse_arguments

CONFIGS = Path(__file__).parents[2] / "examples" / "configs"


def test_flags_win_over_the_file_and_the_file_over_defaults(tmp_path):
    config = tmp_path / "settings.yaml"
    config.write_text("learning-rate: 1e-2\nhead: linear\nsasrec_layers: 1\nbf16: false\n")
    data, model, sasrec, training = parse_arguments(
        ["--config", str(config), "--head", "tied", "--output-dir", str(tmp_path)]
    )
    assert (training.learning_rate, model.head, sasrec.sasrec_layers) == (0.01, "tied", 1)
    assert training.lr_scheduler_type == "cosine"
    assert training.metric_for_best_model == "ndcg@10"
    assert data.dataset == "demo"


def test_without_arguments_it_is_the_demo():
    data, model, _, training = parse_arguments([])
    assert (data.dataset, training.output_dir, model.tuning) == ("demo", "outputs/demo", "lora")


def test_a_data_set_alone_does_not_get_the_settings_of_the_demo():
    data, _, _, training = parse_arguments(["--dataset", "log.txt"])
    assert (data.dataset, training.output_dir) == ("log.txt", "outputs/e4srec")


def test_settings_of_the_file_are_checked_like_flags(tmp_path):
    config = tmp_path / "settings.yaml"
    config.write_text("head: mlp")
    with pytest.raises(UsageError, match="invalid choice: 'mlp'"):
        parse_arguments(["--config", str(config), "--output_dir", str(tmp_path)])
    config.write_text("lora_target_modules: [q_proj, v_proj]\nlr_scheduler_kwargs: {num_cycles: 2}\nseed: 3\n")
    _, model, _, training = parse_arguments(["--config", str(config)])
    assert (model.lora_target_modules, training.lr_scheduler_kwargs, training.seed) == (
        ["q_proj", "v_proj"],
        {"num_cycles": 2},
        3,
    )


@pytest.mark.parametrize("config", [DEMO_RECIPE, *sorted(CONFIGS.glob("*.yaml"))], ids=lambda file: file.stem)
def test_every_recipe_can_be_read(config):
    parse_arguments(["--config", str(config)])


def test_dashes_and_underscores_are_the_same_in_flags():
    assert parse_arguments(["--max-targets", "3"])[1].max_targets == 3
    assert parse_arguments(["--max_targets", "3"])[1].max_targets == 3
    assert parse_arguments(["--instruction", "a_b-c"])[1].instruction == "a_b-c"
