"""Of a folder in which a model was trained, what a push would send is checked, and that is said in a line."""

import json

import pytest

from e4srec_hf import SASRecConfig, SASRecModel
from e4srec_hf.hub.push import travelling_files
from e4srec_hf.hub.verify import verify
from e4srec_hf.training.saving import save_trained
from tests.conftest import VOCAB
from tests.hub.verify.tampering import HOSTILE_CODE, HOSTILE_PICKLE, WEIGHTS, change_weights, contents, find, write


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
    write("train.log", "loss 3")(fresh)
    return fresh


def test_a_training_folder_is_said_to_be_one_in_a_line(trained, marker):
    verification = verify(trained)
    assert verification.passed, str(verification)
    (finding,) = verification.findings
    assert finding.kind == "note"
    left_out = len(contents(trained)) - len(travelling_files(trained))
    assert finding.what == (
        f"this is a training folder: what a push would send was checked, {left_out} other files were not"
    )
    assert not marker.exists()


def test_what_a_push_would_send_is_checked_all_the_same(trained):
    write("extra.py", HOSTILE_CODE)(trained)
    change_weights(trained, lambda w: w.pop("score.weight"))
    verification = verify(trained)
    assert find(verification, "extra.py", "does not contain")
    assert find(verification, WEIGHTS, "missing: score.weight")


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
