"""A base of the shape of LLaMA-2-7B with random weights on a GPU: training, recommending, memory, bf16 and 4-bit.

    python benchmarks/large_base.py --dataset Beauty.txt --device cuda

LoRA r 16 on the MLP, the paper's prompt, the linear head. Utilisation counts the products of the base's matrices that
packed training needs, forward (2) and back to the inputs (2), for a frozen matrix has no gradient of its own; it is
set against the rate of a large product of the same dtype that is measured in the same run. What the last layer leaves
out is counted as if it were done: 2% of 32 layers.
"""

import argparse
from typing import Any

import torch
from measuring import (
    RESULTS,
    forget_peak,
    llama_config,
    packed_rows,
    peak_bytes,
    seconds,
    spread_sample,
    synchronize,
    write_result,
)
from torch import nn
from transformers import AutoModel, BitsAndBytesConfig, LlamaModel, PreTrainedTokenizerBase

from e4srec_hf import E4SRecModel
from e4srec_hf.data import (
    SequenceCollator,
    build_item_tokenizer,
    catalogue_of,
    leave_one_out,
    load_sequences,
    tokenize_histories,
)
from e4srec_hf.training import prepare_for_training
from e4srec_hf.training.packed_reading import packing_of
from e4srec_hf.training.tiny_base import train_byte_level_tokenizer


def product_rate(device: str, size: int) -> float:
    """Floating-point operations a second of a bfloat16 matrix product."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    taken = seconds(lambda: [a @ b for _ in range(10)], device) / 10
    return 2 * size**3 / taken


def make_base(arguments: argparse.Namespace, vocab_size: int, folder: str, four_bit: bool) -> Any:
    """A bfloat16 base with random weights, quantized on the way from a folder where asked."""
    config = llama_config(vocab_size, arguments.layers, arguments.hidden_size)
    if not four_bit:
        with torch.device(arguments.device):
            default = torch.get_default_dtype()
            torch.set_default_dtype(torch.bfloat16)
            try:
                return LlamaModel(config)
            finally:
                torch.set_default_dtype(default)
    make_base(arguments, vocab_size, folder, False).save_pretrained(folder)
    quantization = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
    )
    return AutoModel.from_pretrained(
        folder, quantization_config=quantization, device_map={"": arguments.device}, dtype=torch.bfloat16
    )


def measure(
    arguments: argparse.Namespace,
    items: PreTrainedTokenizerBase,
    splits: Any,
    four_bit: bool,
    folder: str,
) -> dict[str, Any]:
    """Everything about one precision of the base."""
    device = arguments.device
    torch.manual_seed(0)
    tokenizer = train_byte_level_tokenizer()
    base = make_base(arguments, len(tokenizer), folder, four_bit)
    model = E4SRecModel.from_base(base, torch.randn(len(items), 64), tokenizer=tokenizer).to(device)
    collate = SequenceCollator(items, "all", max_history=model.config.max_history)
    rows = spread_sample(splits["train"], arguments.users).to_list()
    step = arguments.users_per_batch
    batches = [
        {name: tensor.to(device) for name, tensor in collate(rows[start : start + step]).items()}
        for start in range(0, len(rows), step)
    ]
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)

    def train() -> None:
        model.train()
        for batch in batches:
            with torch.autocast(torch.device(device).type, torch.bfloat16):
                loss = model(**batch).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    model.train()
    passed, reason = packing_of(prepare_for_training(model))[:2]
    train()
    forget_peak(device)
    taken = seconds(train, device)
    peak = peak_bytes(device)
    n_targets = sum(int((batch["labels"] > 0).sum()) for batch in batches)
    tokens = sum(tokens_of(model, batch) for batch in batches)
    matrices = sum(
        layer.in_features * layer.out_features
        for name, layer in model.base.named_modules()
        if isinstance(layer, nn.Linear) and ".lora_" not in name
    )
    model.eval()
    histories = [row[:-1] for row in spread_sample(splits["test"], arguments.users_to_recommend)["item_ids"]]
    batch = tokenize_histories(items, histories).to(device)
    model.recommend(**batch)
    forget_peak(device)
    recommending = seconds(lambda: model.recommend(**batch), device)
    synchronize(device)
    return {
        "base": "4-bit NF4" if four_bit else "bfloat16",
        "packed": passed or reason,
        "targets": n_targets,
        "targets_per_second": n_targets / taken,
        "tokens_per_second": tokens / taken,
        "flops_per_second": 4 * matrices * tokens / taken,
        "peak_training_bytes": peak,
        "users_per_second_recommending": len(histories) / recommending,
        "peak_recommending_bytes": peak_bytes(device),
    }


def tokens_of(model: E4SRecModel, batch: dict[str, torch.Tensor]) -> int:
    """Tokens that one packed pass reads: instruction once, items, response copies; padding does not count."""
    return len(model.instruction_ids) + int(packed_rows(model, batch).length.sum())


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, help="A text file: a line a user, user item item …")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--results", default=str(RESULTS), help="Folder to write to.")
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--hidden_size", type=int, default=4096)
    parser.add_argument("--users", type=int, default=512)
    parser.add_argument("--users_per_batch", type=int, default=64)
    parser.add_argument("--users_to_recommend", type=int, default=2048)
    parser.add_argument("--product_size", type=int, default=8192)
    parser.add_argument("--folder", default="outputs/large-base", help="Where the base waits to be quantized.")
    parser.add_argument("--bf16_only", action="store_true")
    arguments = parser.parse_args()
    sequences = load_sequences(arguments.dataset)
    items, splits = build_item_tokenizer(catalogue_of(sequences)), leave_one_out(sequences)
    ceiling = product_rate(arguments.device, arguments.product_size)
    found = []
    for four_bit in (False,) if arguments.bf16_only else (False, True):
        found.append(measure(arguments, items, splits, four_bit, arguments.folder))
        found[-1]["utilisation"] = found[-1]["flops_per_second"] / ceiling
    write_result("large_base", arguments, {"product_flops_per_second": ceiling, "bases": found})


if __name__ == "__main__":
    main()
