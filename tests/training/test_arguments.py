"""The settings of a training: defaults, then the file, then flags; and the recipes that come along."""

from pathlib import Path

import pytest
import yaml

from e4srec_hf.training.arguments import DEMO_RECIPE, FROM_THE_DATA, UsageError, make_parser, parse_arguments

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


def chosen(*flags):
    _, model, _, training = parse_arguments(["--use_cpu", "true", *flags])
    return training.learning_rate, model.projection_init, model.response


def test_a_base_that_is_given_gets_lora_and_one_that_is_made_is_trained_whole():
    def tuning(*flags):
        _, model, _, training = parse_arguments(["--use_cpu", "true", "--dataset", "log.txt", *flags])
        return model.tuning, training.learning_rate

    assert tuning() == ("full", 5e-4)
    assert tuning("--base_model=org/base") == tuning("--base-model", "org/base") == ("lora", 3e-3)
    for of_lora in (["--lora_r", "4"], ["--load-in-8bit", "true"], ["--tuning", "lora"]):
        assert tuning(*of_lora) == ("lora", 3e-3)
    assert tuning("--base_model", "org/base", "--tuning", "full") == ("full", 5e-4)


def test_all_else_is_the_same_whether_the_base_is_given_or_made(tmp_path):
    for base in ([], ["--base_model=org/base"]):
        assert chosen("--dataset", "log.txt", *base)[1:] == ("fitted", "")
        assert chosen("--dataset", "log.txt", *base, "--response", "Next:")[1:] == ("fitted", "Next:")
    config = tmp_path / "settings.yaml"
    config.write_text("learning_rate: 1e-4\nprojection-init: random\n")
    assert chosen("--config", str(config)) == (1e-4, "random", "")


def test_what_follows_from_the_data_is_what_was_not_given(tmp_path):
    config = tmp_path / "settings.yaml"
    config.write_text("warmup-steps: 5\n")
    assert parse_arguments(["--dataset", "log.txt"])[1].from_the_data == FROM_THE_DATA
    assert parse_arguments(["--config", str(config), "--num-train-epochs=2"])[1].from_the_data == (
        "per_device_train_batch_size",
    )


@pytest.mark.parametrize("config", [DEMO_RECIPE, *sorted(CONFIGS.glob("*.yaml"))], ids=lambda file: file.stem)
def test_a_recipe_says_all_that_its_figures_rest_on(config):
    """A change of the defaults does not change a recipe."""
    said = yaml.safe_load(config.read_text(encoding="utf-8"))
    start = {"projection_init", "head", "instruction", "response", "learning_rate", "item_dropout", "base_dropout"}
    start |= {"tuning", "sasrec_batch_size"}
    assert start | {*FROM_THE_DATA} <= said.keys()


def test_without_flags_it_is_the_demo():
    assert chosen() == (3e-3, "random", "")


def test_the_help_of_a_negated_flag_says_what_it_does():
    parser = make_parser()
    negated = [action for action in parser._actions if action.option_strings[0].startswith("--no_")]
    assert {"exclude_seen", "rank_test"} <= {action.dest for action in negated}
    for action in negated:
        assert action.help == f"The same as --{action.dest} false."
    parser.format_help()


def test_the_help_says_what_follows_from_the_data():
    told = " ".join(make_parser().format_help().split())
    assert (
        told.count("By default it follows from the data's size.") == len(FROM_THE_DATA) + 1
    )  # and SASRec's batch size


def test_a_base_that_is_trained_whole_learns_at_a_rate_of_its_own():
    assert chosen("--dataset", "log.txt", "--tuning", "full")[0] == 5e-4
    assert chosen("--dataset", "log.txt", "--tuning", "full", "--learning_rate", "1e-3")[0] == 1e-3
