"""How well a base starts with nothing set: ten families of bases, each beside the best of a grid of starts and rates.

    python benchmarks/starts.py --dataset ml-100k --base-model gemma-3-270m --base-name "Gemma 3 270M"

Every trial trains on the same targets, with the item vectors of one SASRec, and is judged on validation; no test target
is ranked. The base of ``--base-model`` is tried twice, as it is and with random weights; the others are small, have
random weights and are made in the cache. Trials are kept, so that an interrupted call goes on where it was.
"""

import argparse
import logging
import math
from pathlib import Path
from typing import Any

import torch
import yaml
from bases import described, random_twin
from command_line import add_arguments, check_arguments
from measuring import write_result
from runs import Trained, make_run, train_all
from search import combinations
from transformers import AutoConfig, AutoModel

from e4srec_hf.data import catalogue_of, load_sequences
from e4srec_hf.modeling.saving import staged_directory
from e4srec_hf.training.tiny_base import train_byte_level_tokenizer

GRID = Path(__file__).parent / "searches" / "starts.yaml"
_SHAPE = {
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
#: Families of decoders: ``model_type`` to the shape of a small one.
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": _SHAPE,
    "qwen3": _SHAPE | {"head_dim": 32},
    "mistral": _SHAPE | {"sliding_window": 64},
    "gpt2": {"n_embd": 128, "n_layer": 4, "n_head": 4},
    "opt": {
        "hidden_size": 128,
        "ffn_dim": 384,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "word_embed_proj_dim": 128,
    },
    "phi3": _SHAPE,
    "olmo2": _SHAPE,
    "smollm3": _SHAPE,
    "granite": _SHAPE,
}


def small_base(family: str, cache: Path) -> Path:
    """A folder with a small decoder of a family, random weights and a byte-level tokenizer; made once."""
    folder = cache / f"base-{family}"
    if not folder.is_dir():
        tokenizer = train_byte_level_tokenizer()
        special = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
        config = AutoConfig.for_model(family, vocab_size=len(tokenizer), **special, **FAMILIES[family])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = AutoModel.from_config(config)
        with staged_directory(folder) as stage:
            model.save_pretrained(stage)
            tokenizer.save_pretrained(stage)
    return folder


def parse_arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, seeds=1)
    parser.add_argument("--families", default=",".join(FAMILIES), help="Of the small bases: %(default)s.")
    parser.add_argument("--grid", type=Path, default=GRID, help="YAML: what all trials have, and what to try.")
    arguments = parser.parse_args()
    check_arguments(parser, arguments)
    arguments.families = [family for family in arguments.families.split(",") if family]
    if unknown := sorted(set(arguments.families) - FAMILIES.keys()):
        parser.error(f"there is no family {', '.join(unknown)}; there are {', '.join(FAMILIES)}")
    if not arguments.grid.is_file():
        parser.error(f"there is no file {arguments.grid}")
    return arguments


def find_bases(arguments: argparse.Namespace) -> dict[str, Path]:
    """Name of a base to its folder."""
    bases = {family: small_base(family, arguments.cache) for family in arguments.families}
    if arguments.base_model is not None:
        name = arguments.base_name or arguments.base_model.stem
        twin = random_twin(arguments.base_model, 0, arguments.cache)
        bases = {name: arguments.base_model, f"{name}, random weights": twin, **bases}
    return bases


def summary(trials: list[tuple[dict[str, Any], list[Trained]]], items: int) -> dict[str, Any]:
    """The trials of one base; the first one sets nothing. Figures are means over the seeds."""
    log: list[dict[str, Any]] = []
    for changes, of_seeds in trials:
        ndcg = [trained.best["ndcg@10"] for trained in of_seeds]
        log.append(
            {
                "changes": changes,
                "ndcg@10": sum(ndcg) / len(ndcg),
                "ndcg@10_of_seeds": ndcg,
                "first_loss_to_ln_items": max(trained.first_loss for trained in of_seeds) / math.log(items),
                "seconds": sum(trained.seconds for trained in of_seeds),
            }
        )
    best = max(log, key=lambda entry: entry["ndcg@10"])
    return {"ratio_to_best": log[0]["ndcg@10"] / best["ndcg@10"], "default": log[0], "best": best, "trials": log}


def table(results: dict[str, dict[str, Any]]) -> str:
    """A row a base."""
    lines = [["base", "nothing set", "best of the grid", "ratio", "first loss / ln items", "what is best"]]
    lines.append(["---"] * len(lines[0]))
    for name, found in results.items():
        figures = [found["default"]["ndcg@10"], found["best"]["ndcg@10"]]
        changes = ", ".join(f"{setting} {value}" for setting, value in found["best"]["changes"].items())
        first_loss = f"{found['default']['first_loss_to_ln_items']:.2f}"
        lines.append(
            [
                name,
                *(f"{f:.4f}" for f in figures),
                f"{found['ratio_to_best']:.0%}",
                first_loss,
                changes or "nothing set",
            ]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def main() -> None:
    """Run the trials, base after base; write and print what was found after each."""
    arguments = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    grid = yaml.safe_load(arguments.grid.read_text(encoding="utf-8"))
    trials = [{}, *(trial for trial in combinations(grid["trials"]) if trial)]
    items = len(catalogue_of(load_sequences(str(arguments.dataset))))
    results: dict[str, dict[str, Any]] = {}
    bases = {}
    for name, base in find_bases(arguments).items():
        runs = [
            [make_run(arguments.dataset, grid["start"], trial, seed, arguments.cache, base) for trial in trials]
            for seed in range(arguments.seeds)
        ]
        finished = {}
        for trained in train_all([run for of_seed in runs for run in of_seed], arguments.cache, arguments.jobs):
            finished[trained.run.key] = trained
            logging.info(f"{name} {trained.run.key}: {trained.best}, first loss {trained.first_loss:.2f}")
        of_seeds = [[finished[run.key] for run in of_trial] for of_trial in zip(*runs, strict=True)]
        results[name] = summary(list(zip(trials, of_seeds, strict=True)), items)
        bases[name] = described(base, name)
        settings = argparse.Namespace(
            dataset=arguments.dataset,
            device=arguments.device,
            results=arguments.results,
            seeds=arguments.seeds,
            start=grid["start"],
        )
        written = write_result("starts", settings, {"items": items, "bases": bases, "found": results})
        written.with_suffix(".md").write_text(table(results), encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
