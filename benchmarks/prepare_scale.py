"""Preparing a log that does not fit: rows a second and peak memory, beside plain pandas, and for twice the rows.

    python benchmarks/prepare_scale.py --rows 20000000 --memory-limit 1GB

A CSV of made-up interactions with Amazon-like ids becomes sequences and leave-one-out splits in Parquet, 5-core. Each
run is a process of its own: seconds are those of the work, imports of packages apart, and peak memory is all it ever
held, packages included. The pandas script makes the same files, and the sequences of both are compared.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from measuring import RESULTS, write_result

COLUMNS = ("user_id", "item_id", "rating", "timestamp")


def write_log(path: Path, rows: int, part: int = 1_000_000) -> None:
    """Interactions of a popularity with a long tail, in no order."""
    generator = np.random.default_rng(0)
    with path.open("wb") as file:
        file.write((",".join(COLUMNS) + "\n").encode())
        for start in range(0, rows, part):
            size = min(part, rows - start)
            users = (generator.pareto(1.3, size) * rows / 40).astype(np.int64) % (rows // 10)
            items = (generator.pareto(0.9, size) * 2000).astype(np.int64) % (rows // 100)
            table = {
                "user_id": _ids("A", users * 2_654_435_761 % 10**13, 13),
                "item_id": _ids("B", items * 40_503 % 10**9, 9),
                "rating": generator.integers(1, 6, size),
                "timestamp": generator.integers(1_200_000_000, 1_600_000_000, size),
            }
            options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="none")
            pyarrow.csv.write_csv(pa.table(table), file, options)


def _ids(letter: str, numbers: Any, digits: int) -> pa.Array:
    text = pc.utf8_lpad(pc.cast(pa.array(numbers), pa.string()), digits, "0")
    return pc.binary_join_element_wise(letter, text, "")


def prepare_here(log: Path, output: Path, memory_limit: str) -> float:
    """With this package; give the seconds that it took."""
    from e4srec_hf.preparation import make_table, prepare

    start = time.perf_counter()
    prepare(make_table(rating_column="rating"), [log], output, memory_limit=memory_limit)
    return time.perf_counter() - start


def prepare_with_pandas(log: Path, output: Path) -> float:
    """The same in plain pandas, in memory."""
    import pandas as pd

    start = time.perf_counter()
    rows = pd.read_csv(log, usecols=["user_id", "item_id", "timestamp"]).dropna()
    while True:
        users = rows.groupby("user_id")["item_id"].transform("size")
        items = rows.groupby("item_id")["user_id"].transform("size")
        kept = rows[(users >= 5) & (items >= 5)]
        if len(kept) == len(rows):
            break
        rows = kept
    rows = rows.sort_values(["user_id", "timestamp"], kind="stable")
    sequences = rows.groupby("user_id").agg(item_ids=("item_id", list), timestamps=("timestamp", list)).reset_index()
    output.mkdir()
    sequences.to_parquet(output / "sequences.parquet", index=False)
    for split, left_out in (("train", 2), ("validation", 1), ("test", 0)):
        part = sequences.copy()
        for column in ("item_ids", "timestamps"):
            part[column] = [values[: len(values) - left_out] for values in part[column]]
        part.to_parquet(output / f"{split}.parquet", index=False)
    pd.DataFrame({"item_id": rows["item_id"].unique()}).to_parquet(output / "items.parquet", index=False)
    return time.perf_counter() - start


def measure(way: str, log: Path, output: Path, memory_limit: str) -> dict[str, Any]:
    """A run in a process of its own: seconds and peak memory."""
    command = [sys.executable, __file__, "--way", way, "--log", str(log), "--output", str(output)]
    command += ["--memory-limit", memory_limit]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(printed.splitlines()[-1])


def fingerprint(path: Path) -> tuple[int, int]:
    """Sequences of a Parquet file, and the sum of hashes of each with its user, whatever their order."""
    total = users = 0
    for batch in pq.ParquetFile(path).iter_batches(columns=["user_id", "item_ids"]):
        texts = pc.binary_join_element_wise(
            batch["user_id"].cast(pa.string()), pc.binary_join(batch["item_ids"], " "), " "
        )
        users += len(texts)
        total += sum(hash(text) for text in texts.to_pylist())
    return users, total


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--memory-limit", default="1GB")
    parser.add_argument("--results", default=str(RESULTS), help="Folder to write to.")
    parser.add_argument("--way", choices=["here", "pandas"], help=argparse.SUPPRESS)
    parser.add_argument("--log", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        if arguments.way == "here":
            seconds = prepare_here(arguments.log, arguments.output, arguments.memory_limit)
        else:
            seconds = prepare_with_pandas(arguments.log, arguments.output)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"seconds": seconds, "peak_bytes": peak}))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        once, twice = folder / "once.csv", folder / "twice.csv"
        write_log(once, arguments.rows)
        write_log(twice, 2 * arguments.rows)
        os.sync()  # or the first run would share the disk with them
        runs = {}
        for name, way, log in (("here", "here", once), ("pandas", "pandas", once), ("twice", "here", twice)):
            runs[name] = measure(way, log, folder / name, arguments.memory_limit)
            print(name, runs[name], flush=True)
        same = fingerprint(folder / "here" / "sequences.parquet") == fingerprint(
            folder / "pandas" / "sequences.parquet"
        )
    settings = argparse.Namespace(
        rows=arguments.rows, memory_limit=arguments.memory_limit, device="cpu", results=arguments.results
    )
    write_result(
        "prepare_scale",
        settings,
        {
            "runs": runs,
            "times_the_rows_a_second_of_pandas": runs["pandas"]["seconds"] / runs["here"]["seconds"],
            "times_as_long_for_twice_the_rows": runs["twice"]["seconds"] / runs["here"]["seconds"],
            "same_sequences": same,
        },
    )


if __name__ == "__main__":
    main()
