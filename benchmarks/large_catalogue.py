"""Memory and time of a training step and of a top-10 over large catalogues, against holding all scores.

    python benchmarks/large_catalogue.py

Each measurement is a process of its own, several of them for each case, of which the median counts. Memory of a step is
the peak above the model and the gradients of what is trained; memory of a top-10 is the peak above the model. The naive
way is ``cross_entropy(vectors @ catalogue.T)``, and a top-10 of the scores of all users.
"""

import argparse
import json
import statistics
import subprocess
import sys
from typing import Any

import torch
from measuring import RESULTS, forget_peak, llama_config, memory_bytes, peak_bytes, seconds, write_result
from torch.nn import functional as F
from transformers import LlamaModel

from e4srec_hf import E4SRecModel
from e4srec_hf.training import prepare_for_training
from e4srec_hf.training.tiny_base import train_byte_level_tokenizer


def make_model(n_items: int, head: str, hidden_size: int, device: str) -> Any:
    """A two-layer base with random weights and random item vectors of width 64."""
    torch.manual_seed(0)
    tokenizer = train_byte_level_tokenizer()
    base = LlamaModel(llama_config(len(tokenizer), 2, hidden_size))
    model: Any = E4SRecModel.from_base(base, torch.randn(n_items + 2, 64), tokenizer=tokenizer, head=head)
    return model.to(device)


def measure(what: str, naive: bool, n_items: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Peak bytes and seconds of one way, in this process."""
    device = arguments.device
    model = prepare_for_training(make_model(n_items, arguments.head, arguments.hidden_size, device))
    users = arguments.users if what == "train" else arguments.users_to_recommend
    ids = torch.randint(2, n_items + 2, (users, arguments.history), device=device)

    def train() -> None:
        model.train()
        model(ids, labels=ids).loss.backward()

    def recommend() -> None:
        if naive:
            with torch.no_grad():
                scores = model(ids).logits
                scores.scatter_(1, ids, -torch.inf)[:, :2] = -torch.inf
                scores.topk(10, dim=1)
        else:
            model.recommend(ids)

    if naive and what == "train":

        def all_scores(model: Any, vectors: torch.Tensor, targets: torch.Tensor, seen: Any) -> torch.Tensor:
            return F.cross_entropy(vectors @ model.scoring_vectors.T, targets, reduction="sum")

        model.training_loss = all_scores
    if what == "train":  # probes of the base must not count
        model.train()(ids[:1], labels=ids[:1])
    else:
        model.eval().recommend(ids[:1])
    run = train if what == "train" else recommend
    before = memory_bytes(device)
    forget_peak(device)
    first = seconds(run, device)
    peak = peak_bytes(device) - before
    gradients = sum(p.grad.numel() * p.grad.element_size() for p in model.parameters() if p.grad is not None)
    model.zero_grad()
    return {"bytes": peak - gradients, "gradient_bytes": gradients, "seconds": min(first, seconds(run, device))}


def in_processes(what: str, n_items: int, head: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Ours and the naive way, in turn in fresh processes: the median of each."""
    ways: list[list[dict[str, Any]]] = [[], []]
    for _ in range(arguments.processes):
        for naive, way in enumerate(ways):
            way.append(in_a_process(what, bool(naive), n_items, head, arguments))
    return [median(way) for way in ways]


def median(measured: list[dict[str, Any]]) -> dict[str, Any]:
    """Of each figure; or why one of the processes failed."""
    for one in measured:
        if "failed" in one:
            return one
    return {name: statistics.median(one[name] for one in measured) for name in measured[0]}


def in_a_process(what: str, naive: bool, n_items: int, head: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """The same as [`measure`], in a fresh process."""
    flags = ["--measure", what, "--n_items", str(n_items), "--head", head, "--device", arguments.device]
    for name in ("hidden_size", "users", "history", "users_to_recommend"):
        flags += [f"--{name}", str(getattr(arguments, name))]
    command = [sys.executable, __file__, *flags, *(["--naive"] if naive else [])]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        reason = "out of memory" if "OutOfMemory" in done.stderr or done.returncode < 0 else done.stderr[-400:]
        return {"failed": reason}
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure and write, or do one measurement for the process that asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--results", default=str(RESULTS), help="Folder to write to.")
    parser.add_argument("--hidden_size", type=int, default=128)
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--processes", type=int, default=3, help="How often each is measured.")
    parser.add_argument("--users", type=int, default=64, help="Users of a training step.")
    parser.add_argument("--history", type=int, default=8, help="Items of each: so many targets, too.")
    parser.add_argument("--users_to_recommend", type=int, default=1024)
    parser.add_argument("--head", default="linear", help=argparse.SUPPRESS)
    parser.add_argument("--measure", choices=["train", "recommend"], help=argparse.SUPPRESS)
    parser.add_argument("--naive", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--n_items", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.naive, arguments.n_items, arguments)))
        return
    found = []
    for n_items in arguments.items:
        for head in ("linear", "tied"):
            for what in ("train", "recommend"):
                ours, naive = in_processes(what, n_items, head, arguments)
                both = "bytes" in ours and "bytes" in naive
                found.append(
                    {
                        "items": n_items,
                        "head": head,
                        "what": what,
                        "ours": ours,
                        "naive": naive,
                        "memory_of_the_naive_way": ours["bytes"] / naive["bytes"] if both else None,
                        "time_of_the_naive_way": ours["seconds"] / naive["seconds"] if both else None,
                    }
                )
                print(found[-1], file=sys.stderr)
    for name in ("head", "measure", "naive", "n_items"):
        delattr(arguments, name)
    write_result("large_catalogue", arguments, {"measurements": found})


if __name__ == "__main__":
    main()
