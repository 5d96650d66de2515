"""The flags of whatever trains runs, and mistakes in them, found before anything is trained."""

import argparse
import os
from pathlib import Path

import torch
from raw_data import as_text


def add_arguments(parser: argparse.ArgumentParser, seeds: int) -> None:
    """The arguments of whatever trains runs."""
    parser.add_argument(
        "--dataset",
        required=True,
        type=Path,
        help="A text file: a line a user, user item item …; the folder of MovieLens with u.data or ratings.csv; or "
        "demo-400 for 400 generated users, and likewise of another number.",
    )
    parser.add_argument(
        *("--base-model", "--base_model"), type=Path, help="A pretrained base: a folder, or a GGUF file."
    )
    parser.add_argument("--base-name", "--base_name", help="What the result calls it; by default the folder's name.")
    parser.add_argument("--seeds", type=int, default=seeds, help="How many; %(default)s by default.")
    parser.add_argument("--jobs", type=int, help="Runs at a time; by default one a core, and one on an accelerator.")
    parser.add_argument("--cache", type=Path, default=Path("outputs/quality"), help="Where runs are kept.")
    parser.add_argument("--results", type=Path, default=Path("outputs/quality/results"), help="Folder to write to.")


def check_arguments(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Find mistakes before anything is trained, and fill in what was left out."""
    base = arguments.base_model
    if base is not None and not (base.suffix == ".gguf" and base.is_file()) and not (base / "config.json").is_file():
        parser.error(f"--base-model {base} is no folder with a config.json and no GGUF file")
    if arguments.seeds < 1 or (arguments.jobs is not None and arguments.jobs < 1):
        parser.error("--seeds and --jobs must be at least 1")
    arguments.device = "cuda" if torch.cuda.is_available() else "cpu"
    arguments.jobs = arguments.jobs or (1 if arguments.device == "cuda" else os.cpu_count() or 1)
    arguments.cache, arguments.base_model = arguments.cache.absolute(), base and base.absolute()
    try:
        arguments.dataset = as_text(arguments.dataset.absolute(), arguments.cache)
    except FileNotFoundError as error:
        parser.error(str(error))
