"""The settings of a training: defaults, then the file, then flags; and the recipes that come along."""

from pathlib import Path

import pytest

from e4srec_hf.training.arguments import DEMO_RECIPE, MADE_BASE_RECIPE, UsageError, make_parser, parse_arguments

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


@pytest.mark.parametrize(
    "config", [DEMO_RECIPE, MADE_BASE_RECIPE, *sorted(CONFIGS.glob("*.yaml"))], ids=lambda file: file.stem
)
def test_every_recipe_can_be_read(config):
    parse_arguments(["--config", str(config)])


def test_dashes_and_underscores_are_the_same_in_flags():
    assert parse_arguments(["--max-targets", "3"])[1].max_targets == 3
    assert parse_arguments(["--max_targets", "3"])[1].max_targets == 3
    assert parse_arguments(["--instruction", "a_b-c"])[1].instruction == "a_b-c"


def chosen(*flags):
    _, model, _, training = parse_arguments(["--use_cpu", "true", *flags])
    return training.learning_rate, model.projection_init, model.response


def test_a_base_that_is_made_has_defaults_of_its_own(tmp_path):
    config = tmp_path / "settings.yaml"
    config.write_text("learning_rate: 1e-4\n")
    assert chosen("--dataset", "log.txt") == (3e-3, "orthogonal", "")
    assert chosen("--dataset", "log.txt", "--learning-rate", "1e-3", "--response", "Next:") == (
        1e-3,
        "orthogonal",
        "Next:",
    )
    assert chosen("--config", str(config)) == (1e-4, "orthogonal", "")
    config.write_text("projection-init: random\nresponse: 'So:'\n")
    assert chosen("--config", str(config)) == (3e-3, "random", "So:")


@pytest.mark.parametrize("flag", ["--base_model=org/base", "--base-model=org/base"])
def test_a_base_that_is_given_has_the_settings_of_the_paper(flag, tmp_path):
    paper = parse_arguments(["--dataset", "log.txt", flag])[1].response
    assert paper
    assert chosen("--dataset", "log.txt", flag) == (3e-4, "random", paper)
    config = tmp_path / "settings.yaml"
    config.write_text("base-model: org/base\n")
    assert chosen("--config", str(config)) == (3e-4, "random", paper)
    assert chosen("--config", str(config), "--learning_rate", "1e-3") == (1e-3, "random", paper)


def test_the_demo_and_the_examples_say_all_that_a_made_base_sets():
    assert chosen() == (3e-3, "random", "")
    for config in sorted(CONFIGS.glob("*.yaml")):
        assert chosen("--config", str(config)) == (5e-4, "orthogonal", "")


def test_the_help_of_a_negated_flag_says_what_it_does():
    parser = make_parser()
    negated = [action for action in parser._actions if action.option_strings[0].startswith("--no_")]
    assert {"exclude_seen", "rank_test"} <= {action.dest for action in negated}
    for action in negated:
        assert action.help == f"The same as --{action.dest} false."
    parser.format_help()


def test_the_help_names_the_defaults_of_a_made_base_and_the_source_of_the_others():
    told = " ".join(make_parser().format_help().split())
    assert "Without --base_model the default is 'orthogonal'." in told
    assert "Without --base_model the default is ''." in told
    assert (
        "by default the paper's (arXiv 2312.02443). Without --base_model the default is 0.003. (default: 0.0003)"
        in told
    )
