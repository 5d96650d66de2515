"""What a user waits for: ranking a large data set, saving and loading a large catalogue, and a single request.

    python benchmarks/waiting.py --other ../before

The other checkout of this repository is measured in turns with this one, each time in a process of its own with one
thread and the packages of this Python; CPU time counts, so that other work on the machine matters little. All data and
weights are random: 50,000 users with 100 items on average, and a catalogue of a million items.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parent.parent
USERS, ITEMS_A_USER, ITEMS, MANY_ITEMS = 50_000, 100, 3_000, 1_000_000
#: Layers and width of the bases of single requests, and items that they choose from.
REQUESTS = ((2, 128, 12_101), (2, 128, 1_000), (16, 128, 12_101))


def cpu_seconds(run: Callable[[], Any]) -> float:
    """CPU time of a call."""
    start = time.process_time()
    run()
    return time.process_time() - start


def measure() -> dict[str, float]:
    """The figures of the package of this process."""
    import numpy as np
    import torch
    from datasets import Dataset

    from e4srec_hf import evaluate_ranking
    from e4srec_hf.data import build_item_tokenizer, tokenize_histories
    from e4srec_hf.data.sequences import SEQUENCE_FEATURES

    torch.set_num_threads(1)
    found: dict[str, float] = {}
    generator = np.random.default_rng(0)
    names = np.array([f"item {number}" for number in range(ITEMS)], dtype=object)
    lengths = generator.geometric(1 / ITEMS_A_USER, USERS).clip(3, 1000)
    rows = [names[generator.integers(0, ITEMS, length)].tolist() for length in lengths]
    tokenizer = build_item_tokenizer(names)
    found["tokenizing, seconds"] = cpu_seconds(
        lambda: [tokenize_histories(tokenizer, rows[first : first + 256]) for first in range(0, USERS, 256)]
    )
    users = Dataset.from_dict({"user_id": list(map(str, range(USERS))), "item_ids": rows}, features=SEQUENCE_FEATURES)
    model, _ = tiny_model(layers=1, width=16, n_items=ITEMS, prompt=False)
    metrics: dict[str, Any] = {}
    found["ranking, seconds"] = cpu_seconds(
        lambda: metrics.update(evaluate_ranking(model, users, tokenizer, exclude_seen=True).metrics)
    )
    found |= {name: metrics[name].value for name in ("hr@10", "mrr")}
    found |= large_catalogue([f"item {number}" for number in range(MANY_ITEMS)])
    for layers, width, n_items in REQUESTS:
        model, tokenizer = tiny_model(layers, width, n_items)
        history = [f"item {number}" for number in generator.integers(0, n_items, 9)]
        for kept in (False, True):
            with model.kept_instruction() if kept else nullcontext():
                request = partial(lambda m, t, h: m.recommend(**tokenize_histories(t, [h])), model, tokenizer, history)
                where = f"{layers} layers, {n_items:,} items" + (", instruction kept" if kept else "")
                found |= {f"request, {where}, {name}": value for name, value in shares(model.base, request).items()}
    return found


def large_catalogue(items: list[str]) -> dict[str, float]:
    """CPU time of making, saving and loading a catalogue, alone and with a model."""
    from transformers import AutoTokenizer

    from e4srec_hf import SASRecConfig, SASRecModel, save_trained
    from e4srec_hf.data import build_item_tokenizer
    from e4srec_hf.data import item_tokenizer as module

    load = getattr(module, "load_item_tokenizer", partial(AutoTokenizer.from_pretrained, trust_remote_code=False))
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        made: list[Any] = []
        found["making a tokenizer, seconds"] = cpu_seconds(lambda: made.append(build_item_tokenizer(items)))
        found["its save_pretrained, seconds"] = cpu_seconds(lambda: made[0].save_pretrained(Path(folder, "alone")))
        found["making and saving it, seconds"] = sum(found.values())
        model = SASRecModel(SASRecConfig(vocab_size=len(made[0]), hidden_size=8, num_hidden_layers=1))
        found["save_trained, seconds"] = cpu_seconds(lambda: save_trained(model, made[0], Path(folder, "model")))
        found["loading it, seconds"] = cpu_seconds(lambda: load(Path(folder, "model")))
        found["AutoTokenizer, seconds"] = cpu_seconds(lambda: AutoTokenizer.from_pretrained(Path(folder, "model")))
    return found


def tiny_model(layers: int, width: int, n_items: int, *, prompt: bool = True) -> tuple[Any, Any]:
    """A model with the linear head on a Llama, both of random weights, and its item tokenizer."""
    import torch
    from measuring import llama_config
    from transformers import LlamaModel

    from e4srec_hf import E4SRecModel
    from e4srec_hf.data import build_item_tokenizer
    from e4srec_hf.training.tiny_base import train_byte_level_tokenizer

    torch.manual_seed(0)
    text = train_byte_level_tokenizer()
    words: dict[str, Any] = {} if prompt else {"instruction": "", "response": "", "max_history": 10}
    base = LlamaModel(llama_config(len(text), layers, width))
    model = E4SRecModel.from_base(base, torch.randn(n_items + 2, 64), tokenizer=text, **words).eval()
    return model, build_item_tokenizer(f"item {number}" for number in range(n_items))


def shares(base: Any, request: Callable[[], Any], times: int = 200) -> dict[str, float]:
    """Median CPU milliseconds of a request in the base's forward and outside, and the share outside."""
    forward, inside = base.forward, [0.0]

    def timed(*args: Any, **kwargs: Any) -> Any:
        start = time.process_time()
        try:
            return forward(*args, **kwargs)
        finally:
            inside[0] += time.process_time() - start

    base.forward = timed
    try:
        found = []
        for _ in range(times + 20):  # the first ones are for warming up
            inside[0] = 0.0
            whole = cpu_seconds(request)
            found.append((inside[0] * 1000, (whole - inside[0]) * 1000))
    finally:
        del base.forward
    in_base, outside = (median(column) for column in zip(*found[20:], strict=True))
    return {"in the base, ms": in_base, "outside, ms": outside, "share outside": outside / (in_base + outside)}


def in_checkout(folder: Path) -> dict[str, float]:
    """The same as [`measure`], in a fresh process with the package of a checkout."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder)}
    command = [sys.executable, __file__, "--measure"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment, cwd=folder)
    return json.loads(done.stdout.splitlines()[-1])


def commit_of(folder: Path) -> str:
    """The commit that is checked out, with a plus sign where files differ from it."""
    words = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    return subprocess.run(words, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    """Compare and write, or measure for the process that asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--other", help="Folder of the other checkout.")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure()))
        return
    if not arguments.other or not Path(arguments.other, "e4srec_hf").is_dir():
        sys.exit("--other: give the folder of another checkout of this repository.")
    other = Path(arguments.other).resolve()
    rounds = [(in_checkout(other), in_checkout(HERE)) for _ in range(arguments.rounds)]
    figures = {
        name: {
            "other": [round(before[name], 4) for before, _ in rounds],
            "this": [round(now[name], 4) for _, now in rounds],
            "this_against_other": round(median(now[name] / before[name] for before, now in rounds), 3),
        }
        for name in rounds[0][0]
    }
    content = {"commits": {"other": commit_of(other), "this": commit_of(HERE)}, "figures": figures}
    print(json.dumps(content, indent=1))
    results = HERE / "benchmarks" / "results" / "waiting-cpu.json"
    results.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
