"""What a training pushes, and how small it is."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from transformers import AutoModel, LlamaConfig, TrainingArguments

from e4srec_hf import E4SRecModel
from e4srec_hf.data import leave_one_out
from e4srec_hf.hub.verify import verify
from e4srec_hf.training.trainer import RankingTrainer
from tests.conftest import random_batch
from tests.hub.pushing import RECOMMEND, REPO


@pytest.mark.slow
@pytest.mark.parametrize(("head", "size"), [("tied", 49_029_264), ("linear", 147_652_760)])
def test_an_adapter_of_a_seven_billion_base_is_small(head, size, tmp_path):
    """Llama-2-7B in bfloat16, without its weights; Amazon Beauty's catalogue; LoRA r 16 on the MLP."""
    with torch.device("meta"):
        base = AutoModel.from_config(
            LlamaConfig(hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32)
        )
    model = E4SRecModel.from_base(base, torch.zeros(12_103, 64), instruction="", response="", head=head)
    base_bytes = sum(2 * weight.numel() for name, weight in model.base.named_parameters() if ".lora_" not in name)
    state = model.state_dict()
    weights = {name: torch.zeros(state[name].shape, dtype=torch.bfloat16) for name in model.saved_keys()}
    model.save_pretrained(tmp_path, state_dict=weights)
    pushed = sum(file.stat().st_size for file in tmp_path.iterdir())
    print(f"{head} head: {pushed:,} bytes are pushed, {pushed / base_bytes:.2%} of the base's {base_bytes:,}")
    assert (tmp_path / "model.safetensors").stat().st_size == size
    assert head == "linear" or pushed < 0.005 * base_bytes


@pytest.mark.slow
def test_the_demo_is_trained_pushed_and_recommends_the_same_without_the_package(hub_here, tmp_path):
    train = Path(__file__).parents[2] / "examples" / "train.py"
    fewer = ["--num_train_epochs", "1", "--sasrec_epochs", "2"]
    push = ["--push_to_hub", "true", "--hub_model_id", "org/e4srec-demo", "--output_dir", str(tmp_path / "demo")]
    done = subprocess.run(
        [sys.executable, str(train), *fewer, *push],
        env=hub_here.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    sample = json.loads((tmp_path / "demo" / "sample_recommendations.json").read_text())
    first = hub_here.api.model_info("org/e4srec-demo").sha
    script = RECOMMEND.replace('["item 3", "item 7"]', "json.loads(sys.argv[4])")

    def recommended(revision="", **environment):
        arguments = json.dumps({"trust_remote_code": True}), json.dumps(sample["history"])
        done = hub_here.run_python(script, "org/e4srec-demo", revision, *arguments, package=False, **environment)
        return json.loads(done.stdout.splitlines()[-1])[1]

    assert recommended() == sample["recommended"]
    hub_here.commit("org/e4srec-demo", {"model.safetensors": b"a later push that went wrong"})
    assert recommended(first) == sample["recommended"]
    assert recommended(first, HF_HUB_OFFLINE="1") == sample["recommended"]
    assert verify("org/e4srec-demo", revision=first).passed


@pytest.mark.slow
def test_the_trainer_pushes_once_and_only_at_the_end(
    make_model, base_on_hub, item_tokenizer, raw_ids, hub_here, tmp_path
):
    histories = [[raw_ids[(user + step) % 30] for step in range(6)] for user in range(12)]
    sequences = Dataset.from_dict({"user_id": [f"u{user}" for user in range(12)], "item_ids": histories})
    splits = leave_one_out(sequences)
    trainer = RankingTrainer(
        make_model(base_on_hub),
        TrainingArguments(
            str(tmp_path / "run"),
            push_to_hub=True,
            hub_model_id=REPO,
            save_strategy="epoch",
            num_train_epochs=2,
            report_to=[],
            use_cpu=True,
        ),
        tokenizer=item_tokenizer,
        train_dataset=splits["train"],
        eval_dataset=splits["validation"],
    )
    trainer.train()
    assert ("model", REPO) not in hub_here.store.repos
    trainer.push_to_hub()
    assert len(hub_here.api.list_repo_commits(REPO)) == 2
    assert not [name for name in hub_here.files(REPO) if name.endswith((".bin", ".pt"))]
    loaded = AutoModel.from_pretrained(REPO)
    trained = trainer.model.eval()
    assert torch.equal(loaded(*random_batch()).logits, trained(*random_batch()).logits)
