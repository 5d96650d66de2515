"""A plain computation of what the reference computes, its files, and their import."""

import json
import pickle

import peft
import pytest
import torch
from datasets import Dataset
from torch import nn
from transformers import AutoModel, AutoTokenizer

from e4srec_hf.convert.reference import import_reference
from e4srec_hf.data.sequences import SEQUENCE_FEATURES

N_ITEMS, ITEM_DIM, HIDDEN, RANK, ALPHA = 20, 12, 32, 4, 6
#: The reference's prompt as it is written in its template.
INSTRUCTION = (
    "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
    "response that appropriately completes the request.\n\n### Instruction:\nGiven the user’s purchase history, "
    "predict next possible item to be purchased.\n\n### Input:\n"
)
RESPONSE = "\n### Response:\n"


def sequences_of(histories):
    rows = {"user_id": [str(user) for user in range(len(histories))], "item_ids": histories}
    return Dataset.from_dict(rows, features=SEQUENCE_FEATURES)


@pytest.fixture(scope="module")
def sequences():
    """Every item, the highest first; the longest history is longer than the paper's 50."""
    numbers = [str(number) for number in range(N_ITEMS, 0, -1)]
    return sequences_of([numbers[:7], numbers[7:], numbers * 3])


class Reference(nn.Module):
    """A plain computation of what the reference computes for a history."""

    def __init__(self, base_dir):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.tokens = AutoTokenizer.from_pretrained(base_dir)
        base = AutoModel.from_pretrained(base_dir)
        lora = peft.LoraConfig(
            r=RANK,
            lora_alpha=ALPHA,
            lora_dropout=0.05,
            target_modules=["gate_proj", "down_proj", "up_proj"],
        )
        self.llama_model = peft.get_peft_model(base, lora)
        table = torch.randn(N_ITEMS + 1, ITEM_DIM, generator=generator)
        self.input_embeds = nn.Embedding.from_pretrained(table)
        self.input_proj = nn.Linear(ITEM_DIM, HIDDEN)
        self.score = nn.Linear(HIDDEN, N_ITEMS + 1, bias=False)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if ".lora_" in name or name.startswith(("input_proj", "score")):
                    parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
        self.eval()

    @torch.no_grad()
    def forward(self, history, instruction=INSTRUCTION, response=RESPONSE):
        """``(items + 1,)`` scores: row 0 is padding, row i is item i."""
        before, behind = (
            self.llama_model.get_input_embeddings()(
                torch.tensor([self.tokens(text, add_special_tokens=False)["input_ids"]])
            )
            for text in (instruction, response)
        )
        items = self.input_proj(self.input_embeds(torch.tensor([history], dtype=torch.long)))
        embeds = torch.cat([before, items, behind], dim=1)
        mask = torch.ones(embeds.shape[:2], dtype=torch.long)
        states = self.llama_model(inputs_embeds=embeds, attention_mask=mask).last_hidden_state
        return self.score(states[:, -1])[0]


@pytest.fixture(scope="module")
def reference(base_dir):
    return Reference(base_dir)


@pytest.fixture
def files(reference, tmp_path):
    """The reference's output folder: item table, PEFT's folder as it was in 2023, ``adapter.pth``."""
    folder = tmp_path / "theirs"
    reference.llama_model.save_pretrained(folder)
    (folder / "adapter_model.safetensors").unlink()
    torch.save(peft.get_peft_model_state_dict(reference.llama_model), folder / "adapter_model.bin")
    fields = json.loads((folder / "adapter_config.json").read_text())
    kept = ("base_model_name_or_path", "bias", "fan_in_fan_out", "inference_mode", "init_lora_weights", "lora_alpha")
    kept += ("lora_dropout", "modules_to_save", "peft_type", "r", "target_modules")
    fields = {name: fields[name] for name in kept} | {"task_type": "CAUSAL_LM", "merge_weights": False}
    (folder / "adapter_config.json").write_text(json.dumps(fields))
    with (folder / "SASRec_item_embed.pkl").open("wb") as file:
        pickle.dump(reference.input_embeds.weight.detach(), file)
    heads = {"input_proj": reference.input_proj.state_dict(), "score": reference.score.state_dict()}
    torch.save(heads, folder / "adapter.pth")
    return folder


@pytest.fixture
def run_import(files, base_dir, sequences, tmp_path):
    def run(**arguments):
        known = {
            "base_model": base_dir,
            "item_embeddings": files / "SASRec_item_embed.pkl",
            "adapter": files / "adapter.pth",
            "sequences": sequences,
        }
        import_reference(tmp_path / "ours", **known | arguments)
        return tmp_path / "ours"

    return run


HISTORIES = [[20], [3, 1, 4, 1, 5, 9, 2, 6], [*range(1, 21), *range(20, 0, -1), *range(1, 16)], []]


def assert_same_scores(directory, reference, **prompt):
    model = AutoModel.from_pretrained(directory)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    assert model.config.vocab_size == N_ITEMS + 2
    tokens = tokenizer.convert_tokens_to_ids([str(number) for number in range(1, N_ITEMS + 1)])
    for history in HISTORIES:
        ids = torch.tensor([tokenizer.convert_tokens_to_ids([str(number) for number in history])], dtype=torch.long)
        with torch.no_grad():
            ours = model(ids).logits[0]
        theirs = reference(history, **prompt)
        torch.testing.assert_close(ours[tokens], theirs[1:], rtol=0, atol=1e-5)
        assert theirs[1:].std() > 0.1  # they tell one item from another


def checkpoint(reference):
    """All tensors of the reference's module, the frozen base and the unused user vectors among them."""
    tensors = {name: tensor.clone() for name, tensor in reference.state_dict().items()}
    unused = {"user_embeds.weight": torch.rand(1, 1), "user_proj.weight": torch.rand(HIDDEN, ITEM_DIM)}
    return tensors | unused | {"user_proj.bias": torch.rand(HIDDEN)}
