"""Pretrained bases in the benchmarks: what tells one from another, and a copy of its shape with random weights."""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer

from e4srec_hf.modeling.saving import staged_directory

#: What a base is read from.
READ = ("config.json", "*.safetensors", "tokenizer*", "*.gguf")


@lru_cache
def base_digest(base: Path) -> str:
    """SHA-256 of the files of a base: a folder, or a GGUF file."""
    files = [base] if base.is_file() else sorted(file for pattern in READ for file in base.glob(pattern))
    whole = hashlib.sha256()
    for file in files:
        with file.open("rb") as content:
            while part := content.read(2**24):
                whole.update(part)
    return whole.hexdigest()


def described(base: Path, name: str | None = None) -> dict[str, Any]:
    """A base in a result, without its place on this machine."""
    name_or_path, how = source(base)
    config = AutoConfig.from_pretrained(name_or_path, **how).get_text_config()
    return {
        "name": name or base.stem,
        "model_type": config.model_type,
        "layers": config.num_hidden_layers,
        "hidden_size": config.hidden_size,
        "sha256": base_digest(base),
    }


def source(base: Path) -> tuple[Path, dict[str, Any]]:
    """What the ``from_pretrained`` of transformers takes for it."""
    return (base.parent, {"gguf_file": base.name}) if base.is_file() else (base, {})


def random_twin(base: Path, seed: int, cache: Path) -> Path:
    """A folder with a base of the same config and tokenizer whose weights are random; made once."""
    folder = cache / f"random-base-{base_digest(base)[:16]}-{seed}"
    if not folder.is_dir():
        name, how = source(base)
        config = AutoConfig.from_pretrained(name, **how)
        config.__dict__.pop("quantization_config", None)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            twin = AutoModel.from_config(config, dtype=torch.float32)
        with staged_directory(folder) as stage:
            twin.save_pretrained(stage)
            AutoTokenizer.from_pretrained(name, **how).save_pretrained(stage)
    return folder
