"""Tiny bases, made on the spot, and a Hub on this machine: nothing is downloaded."""

import copy
import logging
import os
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
import torch
from huggingface_hub import constants, hf_api
from hypothesis import settings
from transformers import (
    AutoModel,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
)
from transformers.pytorch_utils import Conv1D
from transformers.utils import hub as transformers_hub

from e4srec_hf import E4SRecModel
from e4srec_hf.data import build_item_tokenizer
from e4srec_hf.evaluation import rank_targets
from e4srec_hf.training.tiny_base import make_tiny_base, train_byte_level_tokenizer
from tests.loopback_hub.server import Hub

settings.register_profile("tests", deadline=None)  # a busy machine is no error
settings.load_profile("tests")

N_ITEMS = 30
VOCAB = N_ITEMS + 2
ITEM_DIM = 12
INSTRUCTION, RESPONSE = "The reader had: ", " Next:"

_SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}
BASE_CONFIGS = {
    "llama": (LlamaConfig, _SHAPE),
    "qwen2": (Qwen2Config, _SHAPE),
    "qwen3": (Qwen3Config, _SHAPE | {"head_dim": 8}),
    "mistral": (MistralConfig, _SHAPE | {"sliding_window": 8}),
    "gemma3": (Gemma3TextConfig, _SHAPE | {"head_dim": 8, "sliding_window": 8}),
    "phi3": (Phi3Config, _SHAPE),
    "gpt2": (GPT2Config, {"n_embd": 32, "n_layer": 2, "n_head": 4}),
    "opt": (
        OPTConfig,
        {"hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "word_embed_proj_dim": 32},
    ),
}


@pytest.fixture(scope="session")
def text_tokenizer():
    return train_byte_level_tokenizer([INSTRUCTION, RESPONSE])


@pytest.fixture
def propagating():
    """Lets pytest see the warnings of `transformers`' loggers."""
    logger = logging.getLogger("transformers")
    before, logger.propagate = logger.propagate, True
    yield
    logger.propagate = before


@pytest.fixture(scope="session")
def make_base(text_tokenizer):
    """A base of a kind in `BASE_CONFIGS`; its random weights are wide enough for attention to matter."""

    def make(kind="llama", seed=0, attn_implementation=None, **overrides):
        config_class, settings = BASE_CONFIGS[kind]
        torch.manual_seed(seed)
        config = config_class(vocab_size=len(text_tokenizer), **settings | overrides)
        base = AutoModel.from_config(config, attn_implementation=attn_implementation)
        with torch.no_grad():
            for parameter in base.parameters():
                if parameter.dim() == 2:
                    parameter.mul_(5)
        return base.eval()

    return make


@pytest.fixture(scope="session")
def base_dir(tmp_path_factory):
    """A base on disk, with its tokenizer."""
    return make_tiny_base(
        tmp_path_factory.mktemp("base") / "tiny", hidden_size=32, texts=(INSTRUCTION, RESPONSE), num_attention_heads=4
    )


@pytest.fixture(scope="session")
def item_table():
    return torch.randn(VOCAB, ITEM_DIM, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="session")
def raw_ids():
    return [f"item {number}" for number in range(N_ITEMS)]


@pytest.fixture(scope="session")
def item_tokenizer(raw_ids):
    return build_item_tokenizer(raw_ids)


@pytest.fixture
def make_model(make_base, item_table, text_tokenizer):
    """An E4SRec model in evaluation mode, its LoRA moved away from the identity."""

    def make(base="llama", table=item_table, **config):
        base = make_base(base) if isinstance(base, str) and base in BASE_CONFIGS else base
        config = {"instruction": INSTRUCTION, "response": RESPONSE, "lora": {"r": 4}} | config
        tokenizer = None if isinstance(base, str | Path) else text_tokenizer
        torch.manual_seed(1)
        model = E4SRecModel.from_base(base, table, tokenizer=tokenizer, **config)
        return stir_lora(model).eval()

    return make


@pytest.fixture
def hub(tmp_path_factory, monkeypatch):
    """A Hub of its own, for `hub.api` and for the scripts of `hub.run_python`."""
    with Hub(tmp_path_factory.mktemp("hub")) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(hub.home / "hub"))
        yield hub


@pytest.fixture
def hub_here(hub, monkeypatch):
    """The same, and the clients of this process take it for the Hub, with the token that may write.

    Code from a repository (`trust_remote_code`) is for `hub.run_python`: its cache is fixed when a Python starts.
    """
    monkeypatch.setattr(hf_api.api, "endpoint", hub.endpoint)
    monkeypatch.setattr(transformers_hub, "_hf_api", None, raising=False)  # one of newer transformers' own
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub.endpoint)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", hub.home / "datasets")
    monkeypatch.setenv("HF_TOKEN", hub.token)
    return hub


def ranks_of(model, ids, mask, targets, *, exclude_seen=True, candidates=None):
    """The ranks of targets that follow histories."""
    mask = torch.ones_like(ids) if mask is None else mask
    labels = torch.full((len(ids), ids.shape[1] + 1), -100)
    labels[:, -1] = targets
    batch = {
        "input_ids": torch.cat([ids, targets[:, None]], dim=1),
        "attention_mask": torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1),
        "labels": labels,
    }
    if candidates is not None:
        batch["candidates"] = candidates
    with torch.no_grad():
        return rank_targets(model, batch, exclude_seen=exclude_seen)[0]


def stir_lora(model):
    """Give LoRA an effect, as training would."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model


def folded_copy(base, model):
    """A copy of the bare ``base`` with the LoRA of ``model`` added to its weights by hand."""
    folded = copy.deepcopy(base)
    for name, layer in model.base.named_modules():
        if hasattr(layer, "lora_A"):
            delta = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
            delta = delta * model.config.lora["lora_alpha"] / model.config.lora["r"]
            plain = folded.get_submodule(name)
            plain.weight.data += delta.T if isinstance(plain, Conv1D) else delta
    return folded


def random_batch(rows=5, width=9, seed=0):
    """Left-padded ids and mask with rows of different lengths, an empty one and an `[UNK]` among them."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(2, VOCAB, (rows, width), generator=generator)
    mask = torch.ones_like(ids)
    for row in range(rows):
        mask[row, : int(torch.randint(0, width, (1,), generator=generator))] = 0
    mask[1] = 0  # an empty history
    mask[2] = 1
    ids[mask == 0] = 0
    ids[2, 4] = 1  # [UNK] in the middle
    return ids, mask


def run_without_package(script, *args, folder):
    """Run a script, working in ``folder``, where `import e4srec_hf` fails; what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.modules['e4srec_hf'] = None\n" + script, *map(str, args)],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(folder / "modules")},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
