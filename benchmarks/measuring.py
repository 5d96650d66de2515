"""What the benchmarks share: the data, the model, the clock, the memory, and the file that a figure ends in."""

import argparse
import json
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from bases import described, source
from datasets import Dataset, disable_progress_bars
from transformers import (
    AutoModel,
    AutoTokenizer,
    LlamaConfig,
    LlamaModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from e4srec_hf import E4SRecModel
from e4srec_hf.cards.facts import device_name
from e4srec_hf.data import build_item_tokenizer, catalogue_of, leave_one_out, load_sequences
from e4srec_hf.modeling.histories import windows_of
from e4srec_hf.training import prepare_for_training
from e4srec_hf.training.packing import PackedRows, pack_rows
from e4srec_hf.training.tiny_base import train_byte_level_tokenizer

RESULTS = Path(__file__).parent / "results"


@dataclass
class World:
    """A data set, a model, and the base alone that it stands on."""

    model: E4SRecModel
    base: PreTrainedModel
    items: PreTrainedTokenizerBase
    train: Dataset
    test: Dataset


def add_arguments(parser: argparse.ArgumentParser, *, layers: int, hidden_size: int) -> None:
    """The arguments that all benchmarks have."""
    parser.add_argument("--dataset", required=True, help="A text file: a line a user, user item item …")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--results", default=str(RESULTS), help="Folder to write to.")
    parser.add_argument("--layers", type=int, default=layers)
    parser.add_argument("--hidden_size", type=int, default=hidden_size)
    parser.add_argument("--head", default="linear", choices=["linear", "tied"])
    parser.add_argument(
        *("--base-model", "--base_model"), type=Path, help="A base, a folder or a GGUF file, instead of a random Llama."
    )
    parser.add_argument("--base-name", "--base_name", help="What the result calls it; by default the folder's name.")


def make_world(arguments: argparse.Namespace) -> World:
    """LoRA r 16 on the MLP of the base that is given, or of a random Llama; the paper's prompt, item vectors of 64."""
    disable_progress_bars()
    torch.manual_seed(0)
    sequences = load_sequences(arguments.dataset)
    items = build_item_tokenizer(catalogue_of(sequences))
    splits = leave_one_out(sequences)
    if arguments.base_model is None:
        tokenizer = train_byte_level_tokenizer()
        base: PreTrainedModel = LlamaModel(llama_config(len(tokenizer), arguments.layers, arguments.hidden_size))
    else:
        name, how = source(arguments.base_model)
        tokenizer = AutoTokenizer.from_pretrained(name, **how)
        base = AutoModel.from_pretrained(name, dtype=torch.float32, **how)
        arguments.base = described(arguments.base_model, arguments.base_name)
        arguments.layers, arguments.hidden_size = arguments.base["layers"], arguments.base["hidden_size"]
    model = E4SRecModel.from_base(base, torch.randn(len(items), 64), tokenizer=tokenizer, head=arguments.head)
    with torch.no_grad():  # fresh LoRA does nothing
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                torch.nn.init.normal_(parameter, std=0.02)
    model = prepare_for_training(model.to(arguments.device))
    return World(model, base.to(arguments.device).eval(), items, splits["train"], splits["test"])


def shape_of(arguments: argparse.Namespace, usual: str) -> str:
    """What the name of a result says of a base that is not the usual one."""
    if arguments.base_model is not None:
        return f"-{arguments.base['name']}".lower().replace(" ", "-")
    shape = f"{arguments.layers}x{arguments.hidden_size}"
    return "" if shape == usual else f"-{shape}"


def llama_config(vocab_size: int, layers: int, hidden_size: int) -> LlamaConfig:
    """The proportions of LLaMA-2: heads of 64 to 128, an MLP 2.7 times as wide."""
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=11008 * hidden_size // 4096,
        num_hidden_layers=layers,
        num_attention_heads=max(hidden_size // (128 if hidden_size >= 4096 else 64), 1),
        max_position_embeddings=2048,
    )


def spread_sample(rows: Dataset, count: int) -> Dataset:
    """Every so many-th row by length: as many long and short histories as the whole has."""
    by_length = sorted(range(len(rows)), key=lambda row: len(rows[row]["item_ids"]))
    step = len(rows) / min(count, len(rows))
    return rows.select([by_length[int((place + 0.5) * step)] for place in range(min(count, len(rows)))])


def packed_rows(model: E4SRecModel, batch: dict[str, torch.Tensor]) -> PackedRows:
    """The rows that a batch is packed into."""
    rows, columns = (batch["labels"] > 0).nonzero(as_tuple=True)
    known = batch["attention_mask"].bool()
    preceding = (known.cumsum(1) - known.long())[rows, columns]
    return pack_rows(windows_of(rows, preceding, model.config.max_history, shared=True), len(model.response_ids))


def synchronize(device: torch.device | str) -> None:
    """Wait for the accelerator."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def seconds(run: Callable[[], Any], device: torch.device | str = "cpu") -> float:
    """How long a call takes; on one thread of a CPU its CPU time, which other work on the machine leaves alone."""
    alone = torch.device(device).type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    synchronize(device)
    start = clock()
    run()
    synchronize(device)
    return clock() - start


def resident_bytes(which: str = "VmRSS") -> int:
    """Memory of this process on Linux: ``VmRSS`` is now, ``VmHWM`` the most since [`forget_peak`]."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(which):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {which}: on this system only --device cuda can measure memory")


def forget_peak(device: torch.device | str) -> None:
    """Start to measure the peak from here."""
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def peak_bytes(device: torch.device | str) -> int:
    """Most memory since [`forget_peak`]: of the accelerator, or of this process."""
    return torch.cuda.max_memory_allocated() if torch.device(device).type == "cuda" else resident_bytes("VmHWM")


def memory_bytes(device: torch.device | str) -> int:
    """Memory now: of the accelerator, or of this process."""
    return torch.cuda.memory_allocated() if torch.device(device).type == "cuda" else resident_bytes()


def hardware(device: str) -> dict[str, Any]:
    """What ran it."""
    return {
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
    }


def write_result(name: str, arguments: argparse.Namespace, figures: dict[str, Any]) -> Path:
    """Print the figures and write them, with the settings and the hardware, to the folder of results.

    Returns:
        The file.
    """
    left_out = ("dataset", "results", "base_model", "base_name")
    settings = {key: value for key, value in vars(arguments).items() if key not in left_out}
    if "dataset" in arguments:
        settings["dataset"] = Path(arguments.dataset).name
    content = {"settings": settings, "hardware": hardware(arguments.device), **figures}
    print(json.dumps(content, indent=1))
    results = Path(arguments.results)
    results.mkdir(parents=True, exist_ok=True)
    kind = torch.device(arguments.device).type
    part = results / f".{name}.part"
    part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return part.replace(results / f"{name}-{kind}.json")
