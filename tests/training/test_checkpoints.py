"""A training that is resumed goes on as if it had not been interrupted, from the start that it had."""

import json
import shutil

import pytest
from safetensors.torch import save_file
from torch import nn

from e4srec_hf.data import make_demo_world
from e4srec_hf.examples import train
from e4srec_hf.training import fitted_start
from e4srec_hf.training.checkpoints import check_fits


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The flags of a training of two epochs, and its folder, in which both checkpoints are."""
    folder = tmp_path_factory.mktemp("run")
    world = make_demo_world(n_users=40, n_items=30)
    rows = zip(world.sequences["user_id"], world.sequences["item_ids"], strict=True)
    (folder / "log.txt").write_text("".join(f"{user} {' '.join(items)}\n" for user, items in rows))
    flags = [
        *("--dataset", str(folder / "log.txt"), "--output_dir", str(folder / "out"), "--rank_test", "false"),
        *("--sasrec_epochs", "2", "--sasrec_hidden_size", "16", "--made_base_hidden_size", "32", "--use_cpu", "true"),
        *("--tuning", "lora"),
        *("--learning_rate", "0.002", "--num_train_epochs", "2", "--save_total_limit", "5", "--disable_tqdm", "true"),
    ]
    train.main(flags)
    return flags, folder / "out"


def resumable(finished, tmp_path, *, until=1):
    """A copy of the folder as an interruption after ``until`` epochs left it, and the flags to go on in it."""
    flags, output = finished
    copy = shutil.copytree(output, tmp_path / "out")
    checkpoints = sorted(copy.glob("checkpoint-*"), key=lambda folder: int(folder.name.split("-")[1]))
    for checkpoint in checkpoints[until:]:
        shutil.rmtree(checkpoint)
    for name in ("model.safetensors", "training.json"):
        (copy / name).unlink()
    return copy, [*flags, "--output_dir", str(copy), "--resume_from_checkpoint", "true"]


def test_a_resumed_training_ends_as_one_that_ran_through_and_fits_no_start(finished, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        fitted_start, "start_from_sasrec", lambda *args, **kwargs: pytest.fail("the start is fitted again")
    )
    output = finished[1]
    copy, flags = resumable(finished, tmp_path)
    train.main(flags)
    assert (copy / "model.safetensors").read_bytes() == (output / "model.safetensors").read_bytes()
    found, expected = (json.loads((folder / "training.json").read_text()) for folder in (copy, output))
    rates = {name: expected["settings"][name] for name in ("head_learning_rate", "projection_learning_rate")}
    assert {name: found["settings"][name] for name in rates} == rates
    assert found["settings"]["sasrec_batch_size"] == expected["settings"]["sasrec_batch_size"] == 8
    assert f"--head_learning_rate {rates['head_learning_rate']:.3g}" in capsys.readouterr().out


def test_a_resumed_training_keeps_its_learning_rates(finished, tmp_path):
    copy, flags = resumable(finished, tmp_path)
    before = sorted(path.name for path in copy.iterdir())
    with pytest.raises(ValueError, match=r"--head_learning_rate 0\.25: the training that is resumed keeps its own"):
        train.main([*flags, "--head_learning_rate", "0.25"])
    assert sorted(path.name for path in copy.iterdir()) == before


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (["--learning_rate", "0.25"], r"^--learning_rate 0\.25: .* keeps its own\. Give --learning_rate 0\.002\.$"),
        (
            ["--gradient_accumulation_steps", "2", "--per_device_train_batch_size", "5"],
            r"^--per_device_train_batch_size 5: a step would have 10 rows, and has \d in the training",
        ),
    ],
)
def test_a_resumed_training_refuses_what_it_would_not_follow(finished, tmp_path, changed, told):
    copy, flags = resumable(finished, tmp_path)
    before = sorted(path.name for path in copy.iterdir())
    with pytest.raises(ValueError, match=told):
        train.main([*flags, *changed])
    assert sorted(path.name for path in copy.iterdir()) == before


def test_a_resumed_sasrec_refuses_what_it_would_not_follow(finished, tmp_path):
    copy, flags = resumable(finished, tmp_path, until=0)
    for changed, told in (
        (
            ["--sasrec_learning_rate", "0.25"],
            r"^--sasrec_learning_rate 0\.25: .* Give --sasrec_learning_rate 0\.001\.$",
        ),
        (["--sasrec_batch_size", "5"], r"^--sasrec_batch_size 5: a step would have 5 rows, and has 8 in the training"),
    ):
        with pytest.raises(ValueError, match=told):
            train.main([*flags, *changed])
    assert (copy / "sasrec" / "model.safetensors").is_file()


def test_a_checkpoint_of_other_shapes_is_refused(tmp_path):
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    check_fits(None, model)
    check_fits(str(tmp_path), model)  # without weights there is nothing to compare
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    check_fits(str(tmp_path), model)
    wider = nn.Sequential(nn.Linear(5, 2), nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"of a run with other settings: 0\.weight is \[2, 3\] there and \[2, 5\] now"):
        check_fits(str(tmp_path), wider)
    with pytest.raises(ValueError, match=r"of a run with other settings: 1\.bias is in one of the two only"):
        check_fits(str(tmp_path), model[:1])
    deeper = nn.Sequential(*model, nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"of a run with other settings: 2\.bias is in one of the two only"):
        check_fits(str(tmp_path), deeper)
    deeper[2].requires_grad_(requires_grad=False)  # as a base, which is not in a checkpoint
    check_fits(str(tmp_path), deeper)
