"""How long a command takes before it does anything: help, the import of the package, and ten recommendations.

    python benchmarks/startup.py

Each command runs in a Python of its own, several times; the first time, which fills caches, does not count. Figures are
medians: CPU seconds of the process (user and system) and seconds that pass.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
from measuring import RESULTS, write_result

from e4srec_hf import E4SRecModel, save_trained
from e4srec_hf.data import build_item_tokenizer
from e4srec_hf.training.tiny_base import make_tiny_base

E4SREC = ("-m", "e4srec_hf.cli")


def save_tiny_model(folder: Path) -> list[str]:
    """Save a model of 100 items on a base of two layers; its items."""
    items = [f"item-{number}" for number in range(100)]
    tokenizer = build_item_tokenizer(items)
    base = make_tiny_base(folder / "base", hidden_size=64)
    save_trained(E4SRecModel.from_base(base, torch.randn(len(tokenizer), 16)), tokenizer, folder)
    return items


def measure(words: list[str]) -> tuple[float, float]:
    """CPU seconds and seconds of one Python process.

    Raises:
        CalledProcessError: If the process fails.
    """
    begin = time.perf_counter()
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, words)
    return usage.ru_utime + usage.ru_stime, seconds


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="How often each command runs.")
    parser.add_argument("--results", default=str(RESULTS), help="Folder to write to.")
    arguments = parser.parse_args()
    arguments.device = "cpu"
    figures = {}
    with tempfile.TemporaryDirectory() as directory:
        model = Path(directory, "model")
        items = save_tiny_model(model)
        commands = {
            "python, nothing imported": ["-c", ""],
            "import e4srec_hf": ["-c", "import e4srec_hf"],
            "e4srec --help": [*E4SREC, "--help"],
            "e4srec recommend --help": [*E4SREC, "recommend", "--help"],
            "e4srec prepare --help": [*E4SREC, "prepare", "--help"],
            "e4srec train --help": [*E4SREC, "train", "--help"],
            "e4srec recommend": [*E4SREC, "recommend", str(model), *items[:3]],
        }
        for name, words in commands.items():
            _, *found = [measure(words) for _ in range(arguments.runs + 1)]
            figures[name] = {"cpu_seconds": median(cpu for cpu, _ in found), "seconds": median(s for _, s in found)}
    write_result("startup", arguments, {"commands": figures})


if __name__ == "__main__":
    main()
