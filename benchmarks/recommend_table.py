"""A million users through `e4srec recommend --input`: memory over time, users a second, and five runs that are killed.

    python benchmarks/recommend_table.py

The model is that of the demo (`make demo`), the histories are random: 1 to 50 of its items. The whole table is made
once, in a process whose memory is read every second, and compared with a plain loop of `recommend`, one user a call, on
some of the users. Then the table is made again: five times the process gets a SIGKILL on its way, and the same command
goes on. In the end both files must be equal to the byte, with every user once. CPU time counts, loading included.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from measuring import RESULTS, seconds, write_result

from e4srec_hf.data import item_catalogue, tokenize_histories
from e4srec_hf.data.saved_models import load_saved_model, load_saved_tokenizer
from e4srec_hf.serving.parts import PATTERN, folder_of_parts
from e4srec_hf.serving.tables import USERS_A_PART

LONGEST, ROWS = 50, 10_000


def write_users(path: Path, items: list[str], users: int) -> None:
    """Random histories, few of them in memory at a time."""
    generator, names = np.random.default_rng(0), pa.array(items)
    schema = pa.schema([("user_id", pa.string()), ("item_ids", pa.list_(pa.string()))])
    with pq.ParquetWriter(path, schema) as writer:
        for first in range(0, users, ROWS):
            count = min(ROWS, users - first)
            bounds = np.append(0, generator.integers(1, LONGEST + 1, count).cumsum()).astype(np.int32)
            drawn = names.take(pa.array(generator.integers(0, len(items), bounds[-1])))
            ids = pa.array([f"user-{number}" for number in range(first, first + count)])
            writer.write_batch(pa.record_batch([ids, pa.ListArray.from_arrays(pa.array(bounds), drawn)], schema))


class Run:
    """The command in a process of its own."""

    def __init__(self, arguments: argparse.Namespace, users: Path, output: Path) -> None:
        self.parts = folder_of_parts(output)
        words = ["recommend", arguments.model, "--input", users, "--output", output, "--top-k", arguments.top_k]
        self.process = subprocess.Popen([sys.executable, "-m", "e4srec_hf.cli", *map(str, words)], stdout=sys.stderr)

    def done(self) -> int:
        """How many users are done; the last part may have fewer than counted here."""
        return USERS_A_PART * sum(1 for _ in self.parts.glob(PATTERN))

    def resident_bytes(self) -> int:
        """Memory of the process now; 0 once it has ended."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8").splitlines()
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS")), 0)

    def watch(self, look: Callable[[], bool | None], interval: float) -> tuple[int, float]:
        """Look at the process until it ends or a look says so; the exit status, and the CPU seconds."""
        while True:
            pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
            if pid:
                break
            if look():
                self.process.send_signal(signal.SIGKILL)
                _, status, usage = os.wait4(self.process.pid, 0)
                break
            time.sleep(interval)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        return self.process.returncode, usage.ru_utime + usage.ru_stime


def whole_run(arguments: argparse.Namespace, users: Path, output: Path) -> dict[str, Any]:
    """The table without a stop."""
    memory: list[tuple[int, int]] = []
    run, start = Run(arguments, users, output), time.perf_counter()
    status, cpu = run.watch(lambda: memory.append((run.done(), run.resident_bytes())), arguments.interval)
    if status:
        sys.exit(f"the command failed with status {status}")
    under_way = [(done, size) for done, size in memory if done and size] or memory
    first, last = (under_way[len(under_way) * part // 4 : len(under_way) * (part + 1) // 4 + 1] for part in (0, 3))
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": cpu,
        "users_a_cpu_second": arguments.users / cpu,
        "peak_bytes": max(size for _, size in memory),
        "peak_of_the_last_quarter_against_the_first": max(size for _, size in last) / max(size for _, size in first),
        "users_done_and_bytes": under_way[:: max(len(under_way) // 20, 1)],
    }


def killed_runs(arguments: argparse.Namespace, users: Path, output: Path) -> dict[str, Any]:
    """The table with kills on the way, each once so many users more are done."""
    killed_at, cpu = [], 0.0
    for place in range(arguments.kills):
        run = Run(arguments, users, output)
        wanted = arguments.users * (place + 1) / (arguments.kills + 1)
        status, taken = run.watch(lambda run=run, wanted=wanted: run.done() >= wanted, 0.01)  # type: ignore[misc]
        cpu += taken
        if status != -signal.SIGKILL:
            sys.exit(f"run {place + 1} ended with status {status} before it was killed: give it more --users")
        killed_at.append(run.done())
        if output.exists():
            sys.exit("the output was there before it was whole")
    status, taken = Run(arguments, users, output).watch(lambda: False, 0.1)
    if status:
        sys.exit(f"the last run failed with status {status}")
    return {"killed_at_users": killed_at, "cpu_seconds": cpu + taken}


def loop(arguments: argparse.Namespace, users: Path, output: Path) -> dict[str, Any]:
    """`recommend` for one user a call, and how many of the users have the same items in the table."""
    tokenizer = load_saved_tokenizer(arguments.model)
    model = load_saved_model(arguments.model, tokenizer, device="cpu")
    asked = pq.ParquetFile(users).read_row_group(0).slice(0, arguments.alone).to_pylist()
    found: list[list[str]] = []

    def one_by_one() -> None:
        for row in asked:
            best = model.recommend(**tokenize_histories(tokenizer, [row["item_ids"]]), top_k=arguments.top_k)
            items: Any = tokenizer.convert_ids_to_tokens(best.item_ids[0][best.scores[0] > -torch.inf].tolist())
            found.append(items)

    taken = seconds(one_by_one)
    table = pq.ParquetFile(output).read_row_group(0).slice(0, arguments.alone)["item_ids"].to_pylist()
    return {
        "users_a_second": len(asked) / taken,
        "users_compared": len(asked),
        "users_with_identical_items": sum(one == other for one, other in zip(found, table, strict=True)),
    }


def user_ids(path: Path) -> pa.Array:
    """The users of a table, in order."""
    return pq.read_table(path, columns=["user_id"])["user_id"].combine_chunks()


def main() -> None:
    """Measure, compare and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="outputs/demo", help="Folder of a saved model.")
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--top-k", "--top_k", type=int, default=20)
    parser.add_argument("--alone", type=int, default=512, help="Users of the plain loop.")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--interval", type=float, default=1.0, help="Seconds between two looks at the memory.")
    parser.add_argument("--results", default=str(RESULTS), help="Folder to write to.")
    arguments = parser.parse_args()
    arguments.device = "cpu"
    if not Path(arguments.model, "config.json").is_file():
        sys.exit(f"--model: no model is in {arguments.model}; make demo trains that of the demo.")
    with tempfile.TemporaryDirectory() as temporary:
        users, whole, killed = (Path(temporary, f"{name}.parquet") for name in ("users", "whole", "killed"))
        write_users(users, item_catalogue(load_saved_tokenizer(arguments.model)), arguments.users)
        table = whole_run(arguments, users, whole)
        alone = loop(arguments, users, whole)
        figures = {
            "table": table,
            "plain_loop": alone,
            "table_against_plain_loop": table["users_a_cpu_second"] / alone["users_a_second"],
            "killed": killed_runs(arguments, users, killed),
            "same_file": whole.read_bytes() == killed.read_bytes(),
            "every_user_once": user_ids(killed).equals(user_ids(users)),
        }
    arguments.model = Path(arguments.model).name
    write_result("recommend_table", arguments, figures)


if __name__ == "__main__":
    main()
