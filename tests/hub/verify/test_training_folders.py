"""A folder in which a model was trained is checked without its checkpoints and its SASRec, and a line says so."""

import json

import pytest

from e4srec_hf import SASRecConfig, SASRecModel
from e4srec_hf.hub.verify import verify
from e4srec_hf.training.saving import save_trained
from tests.conftest import VOCAB
from tests.hub.verify.tampering import (
    HOSTILE_CODE,
    HOSTILE_PICKLE,
    WEIGHTS,
    change_weights,
    config,
    contents,
    find,
    write,
)


@pytest.fixture
def trained(fresh, item_tokenizer):
    """A model with its checkpoints, its SASRec and its logs."""
    save_trained(SASRecModel(SASRecConfig(vocab_size=VOCAB)), item_tokenizer, fresh / "sasrec")
    for folder in ("checkpoint-12", "sasrec/checkpoint-3"):
        step = int(folder.rpartition("-")[2])
        write(f"{folder}/trainer_state.json", json.dumps({"global_step": step, "log_history": []}))(fresh)
        for name in ("optimizer.pt", "rng_state.pth", "training_args.bin"):
            write(f"{folder}/{name}", HOSTILE_PICKLE)(fresh)
    write("runs/events.out.tfevents.1.host", b"\x18\0\0\0")(fresh)
    return fresh


def test_a_training_folder_is_said_to_be_one_in_a_line(trained, marker):
    verification = verify(trained)
    assert verification.passed, str(verification)
    (finding,) = verification.findings
    assert finding.kind == "note"
    left_out = sum(name.startswith(("checkpoint-12/", "sasrec/")) for name in contents(trained))
    assert finding.what == f"this is a training folder: {left_out} files in checkpoint-12, sasrec were not checked"
    assert not marker.exists()


@pytest.mark.parametrize(
    "name",
    [
        *("adapter_config.json", "added_tokens.json", "special_tokens_map.json", "modules.json", "evil.pkl"),
        *("pytorch_model.bin", "Config.json", "other/x.bin", "checkpoint-1x/x.pkl", "checkpoint-13/x.pkl"),
        *("sasrec.pkl", "base/adapter_config.json", "base/x.bin", "base/inner/x.pkl", "SASRec/x.pkl"),
    ],
)
def test_everything_else_is_checked_although_a_push_would_not_send_it(name, trained):
    write(name, HOSTILE_PICKLE if name.endswith((".pkl", ".bin")) else "{}")(trained)
    failed = [finding for finding in verify(trained).findings if finding.kind == "failed"]
    assert name in {finding.where for finding in failed}


def test_one_state_of_a_checkpoint_does_not_hide_a_link(trained, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (trained / "other").symlink_to(tmp_path / "elsewhere")
    assert find(verify(trained), "other", "is a link")


def test_the_model_is_checked_all_the_same(trained):
    write("extra.py", HOSTILE_CODE)(trained)
    change_weights(trained, lambda w: w.pop("score.weight"))
    verification = verify(trained)
    assert find(verification, "extra.py", "does not contain")
    assert find(verification, WEIGHTS, "missing: score.weight")


@pytest.mark.parametrize("folder", ["checkpoint-12", "sasrec"])
def test_what_is_not_checked_is_no_base(folder, trained):
    config(base_model_name_or_path=f"./{folder}")(trained)
    assert not verify(trained).passed


def test_a_folder_without_its_model_yet_fails(trained):
    (trained / WEIGHTS).unlink()
    assert find(verify(trained), WEIGHTS, "is missing")


@pytest.mark.parametrize(
    "state", ['{"global_step": 11}', "[]", "{", '{"global_step": "12"}', "[" * 100_000], ids=lambda text: text[:20]
)
def test_a_checkpoint_that_no_training_wrote_makes_no_training_folder(state, fresh):
    write("checkpoint-12/trainer_state.json", state)(fresh)
    write("checkpoint-12/optimizer.pt", HOSTILE_PICKLE)(fresh)
    assert find(verify(fresh), "checkpoint-12/optimizer.pt", "unpickled")


def test_a_repo_on_a_hub_is_checked_whole(trained, hub_here):
    hub_here.commit("org/trained", contents(trained))
    assert find(verify("org/trained"), "checkpoint-12/optimizer.pt", "unpickled")
