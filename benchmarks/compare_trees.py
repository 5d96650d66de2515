"""CPU time of recommending and of a training step in this checkout, against another checkout of this repository.

    python benchmarks/compare_trees.py --dataset Beauty.txt --other ../before

Both have their own ``.venv`` with the package installed (``make .venv/.package``). They take turns, each measurement in
a process of its own with one thread; CPU time counts, so that other work on the machine matters little.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent.parent
#: Layers and width of the base, users to recommend for, users of a training step.
SHAPES = ((2, 128, 2048, 64), (4, 512, 384, 32), (16, 128, 1024, 64))


def least(run: Callable[[], Any], times: int = 3) -> float:
    """CPU seconds of a call: the least of some, after one for warming up."""
    run()
    taken = []
    for _ in range(times):
        start = time.process_time()
        run()
        taken.append(time.process_time() - start)
    return min(taken)


def measure(dataset: str) -> dict[str, float]:
    """Users or targets a CPU second with the package of this process, on each shape."""
    sys.path[0] = str(Path.cwd() / "benchmarks")  # of the checkout that is measured, whose file this may not be
    from measuring import make_world, spread_sample

    from e4srec_hf.data import SequenceCollator, tokenize_histories

    found: dict[str, float] = {}
    for layers, width, n_users, n_trained in SHAPES:
        settings = argparse.Namespace(
            dataset=dataset, layers=layers, hidden_size=width, head="linear", device="cpu", base_model=None
        )
        world = make_world(settings)
        model: Any = world.model.eval()
        trained_by = model.reader
        try:  # what an adapter repo brings
            from e4srec_hf.modeling.reading import PlainReader

            model.reader = PlainReader()
        except ImportError:  # a checkout from before there was one
            pass
        histories = [row[:-1] for row in spread_sample(world.test, n_users)["item_ids"]]
        batch = tokenize_histories(world.items, histories)
        alone = [tokenize_histories(world.items, [history]) for history in histories[:: n_users // 32]]

        def recommend_alone(model: Any = model, alone: Any = alone) -> None:
            with getattr(model, "kept_instruction", nullcontext)():
                for one in alone:
                    model.recommend(**one)

        shape = f"{layers} layers, width {width}"
        found[f"batched, {shape}"] = n_users / least(partial(model.recommend, **batch))
        found[f"alone, {shape}"] = len(alone) / least(recommend_alone)
        model.reader = trained_by
        step = SequenceCollator(world.items, "all", max_history=50)(spread_sample(world.train, n_trained).to_list())
        model.train()

        def train(model: Any = model, step: Any = step) -> None:
            model(**step).loss.backward()

        taken = least(train)
        found[f"training, {shape}"] = int((step["labels"] > 0).sum()) / taken
    return found


def in_checkout(folder: Path, dataset: str) -> dict[str, float]:
    """The same as [`measure`], in a fresh process with the package and the benchmarks of a checkout."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [str(folder / ".venv" / "bin" / "python"), __file__, "--dataset", dataset, "--measure"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment, cwd=folder)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Compare and write, or measure for the process that asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, help="A text file: a line a user, user item item …")
    parser.add_argument("--other", help="Folder of the other checkout.")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.dataset)))
        return
    if not arguments.other or not Path(arguments.other, ".venv").is_dir():
        sys.exit("--other: give the folder of a checkout with a .venv that has its package.")
    dataset, other = str(Path(arguments.dataset).resolve()), Path(arguments.other).resolve()
    ratios: dict[str, list[float]] = {}
    for _ in range(arguments.rounds):
        before, now = in_checkout(other, dataset), in_checkout(HERE, dataset)
        for name, per_second in now.items():
            ratios.setdefault(name, []).append(round(per_second / before[name], 3))
    commits = {
        name: subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607 - git is wherever it is
            cwd=folder,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for name, folder in (("other", other), ("this", HERE))
    }
    content = {"commits": commits, "this_against_other_each_round": ratios}
    print(json.dumps(content, indent=1))
    results = HERE / "benchmarks" / "results" / "compare_trees-cpu.json"
    results.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
