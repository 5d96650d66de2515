"""Runs of examples/train.py, kept in folders named after their settings, so that nothing is trained twice.

A run never sees a test target: `--rank_test false`. What it leaves is a model and its learning curve on validation.
"""

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from e4srec_hf.data import build_item_tokenizer, catalogue, load_sequences

TRAIN = Path(__file__).parent.parent / "examples" / "train.py"
#: Settings that say where and how a run goes, and not what comes out of it.
NO_SETTINGS = ("output_dir", "dataset", "seed", "overwrite", "disable_tqdm", "use_cpu")
#: Settings of the adapter's training that SASRec's follows too.
SHARED_WITH_SASREC = ("max_history", "all_targets", "lr_scheduler_type", "warmup_steps", "bf16")


def read_recipe(path: Path) -> dict[str, Any]:
    """The settings of a YAML file for train.py."""
    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {name: value for name, value in recipe.items() if name not in NO_SETTINGS}


@dataclass(frozen=True)
class Run:
    """A model to train: SASRec, or an adapter on the item vectors of a SASRec or of a file.

    Attributes:
        dataset: The sequences, a text file.
        settings: Flags of train.py.
        seed: Of the weights, the order of the batches and dropout.
        vectors: Where an adapter has its item vectors from. ``None`` makes the run a SASRec.
    """

    dataset: Path
    settings: dict[str, Any]
    seed: int
    vectors: "Run | Path | None" = None

    @cached_property
    def key(self) -> str:
        """Says what is trained: equal keys, equal runs."""
        vectors = self.vectors.key if isinstance(self.vectors, Run) else self.vectors and digest(self.vectors)
        content = [digest(self.dataset), self.settings, self.seed, vectors]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def kind(self) -> str:
        """``sasrec`` or ``e4srec``."""
        return "sasrec" if self.vectors is None else "e4srec"

    def folder(self, cache: Path) -> Path:
        """Where it is kept."""
        return cache / f"{self.kind}-{self.key}"

    def model_folder(self, cache: Path) -> Path:
        """Where its model lies."""
        return self.folder(cache) / "sasrec" if self.kind == "sasrec" else self.folder(cache)

    def command(self, cache: Path) -> list[str]:
        """What trains it."""
        flags = {"model": self.kind, "seed": self.seed, "rank_test": False, "output_dir": self.folder(cache)}
        if self.vectors is not None:
            flags["item_embeddings"] = (
                self.vectors.model_folder(cache) if isinstance(self.vectors, Run) else self.vectors
            )
        config = self.folder(cache) / "settings.yaml"
        given = [part for name, value in flags.items() for part in (f"--{name}", str(value))]
        return [sys.executable, str(TRAIN), "--config", str(config), "--dataset", str(self.dataset), *given]

    def train(self, cache: Path, threads: int) -> "Trained":
        """Train it, or go on where it stopped, or read what an earlier call left."""
        folder = self.folder(cache)
        done = folder / "run.json"
        if not done.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "settings.yaml").write_text(yaml.safe_dump(self.settings, allow_unicode=True), encoding="utf-8")
            started = any(folder.glob("**/checkpoint-*/trainer_state.json"))
            how = ["--resume_from_checkpoint", "true"] if started else ["--overwrite", "true"]
            begin = time.perf_counter()
            with (folder / "log.txt").open("a", encoding="utf-8") as log:
                code = subprocess.run(  # noqa: S603 - this very Python
                    [*self.command(cache), *how, "--disable_tqdm", "true"],
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=os.environ | {"OMP_NUM_THREADS": str(threads)},
                    check=False,
                ).returncode
            if code:
                tail = (folder / "log.txt").read_text(encoding="utf-8").splitlines()[-15:]
                raise RuntimeError(f"{shlex.join(self.command(cache))}\nfailed with {code}:\n" + "\n".join(tail))
            for checkpoint in folder.glob("**/checkpoint-*"):
                shutil.rmtree(checkpoint)
            seconds = None if started else time.perf_counter() - begin
            part = folder / ".run.json.part"
            part.write_text(json.dumps({"settings": self.settings, "seed": self.seed, "seconds": seconds}, indent=1))
            part.replace(done)
        return Trained(self, self.model_folder(cache), json.loads(done.read_text(encoding="utf-8"))["seconds"])


@dataclass
class Trained:
    """A finished run.

    Attributes:
        run: What was trained.
        folder: The model, as `AutoModel` loads it.
        seconds: Time of the training process; ``None`` where it was interrupted.
        curve: An entry an epoch: ``epoch``, ``loss``, and ``hr@10`` and ``ndcg@10`` on validation.
    """

    run: Run
    folder: Path
    seconds: float | None
    curve: list[dict[str, float]] = field(init=False)

    def __post_init__(self) -> None:
        log = json.loads((self.folder / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
        losses = {entry["epoch"]: entry["loss"] for entry in log if "loss" in entry}
        self.curve = [
            {
                "epoch": entry["epoch"],
                "loss": losses.get(entry["epoch"], float("nan")),
                "hr@10": entry["eval_hr@10"],
                "ndcg@10": entry["eval_ndcg@10"],
            }
            for entry in log
            if "eval_ndcg@10" in entry
        ]

    @property
    def best(self) -> dict[str, float]:
        """The epoch that was selected: the best on validation."""
        return max(self.curve, key=lambda entry: entry["ndcg@10"])


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def make_run(dataset: Path, recipe: dict[str, Any], changes: dict[str, Any], seed: int, cache: Path) -> Run:
    """A recipe with some changes as a run.

    Args:
        dataset: The sequences.
        recipe: Settings of train.py, of both stages.
        changes: Settings that differ. ``model: sasrec`` makes a SASRec. An adapter's SASRec is the recipe's, whatever
            is changed of the adapter, unless ``sasrec_…`` is changed, or ``item_embeddings: random`` takes its place.
        seed: Of both stages.
        cache: Where random item vectors are written.
    """
    settings = recipe | changes
    only_sasrec = settings.pop("model", "e4srec") == "sasrec"
    for_sasrec = settings if only_sasrec else recipe | {k: v for k, v in changes.items() if k.startswith("sasrec_")}
    sasrec = {k: v for k, v in for_sasrec.items() if k.startswith("sasrec_") or k in SHARED_WITH_SASREC}
    if only_sasrec:
        return Run(dataset, sasrec, seed)
    vectors: Run | Path = Run(dataset, sasrec, seed)
    if settings.pop("item_embeddings", None) == "random":
        vectors = random_vectors(dataset, sasrec["sasrec_hidden_size"], seed, cache)
    return Run(dataset, {k: v for k, v in settings.items() if not k.startswith("sasrec_")}, seed, vectors)


def random_vectors(dataset: Path, width: int, seed: int, cache: Path) -> Path:
    """A file of item vectors drawn from a standard normal distribution."""
    path = cache / f"random-{digest(dataset)[:16]}-{width}-{seed}.npy"
    rows = len(build_item_tokenizer(catalogue(load_sequences(str(dataset)))))
    cache.mkdir(parents=True, exist_ok=True)
    np.save(path, np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32))
    return path


def train_all(runs: Iterable[Run], cache: Path, jobs: int) -> Iterator[Trained]:
    """Train ``jobs`` at a time, each on its share of the processor, the SASRecs that others build on first."""
    wanted = {run.key: run for run in runs}
    vectors = {run.vectors.key: run.vectors for run in wanted.values() if isinstance(run.vectors, Run)}
    threads = max((os.cpu_count() or 1) // jobs, 1)
    futures: dict[str, Future[Trained]] = {}

    def train(run: Run) -> Trained:
        if isinstance(run.vectors, Run):
            futures[run.vectors.key].result()
        return run.train(cache, threads)

    with ThreadPoolExecutor(jobs) as pool:
        for key, run in {**vectors, **wanted}.items():
            futures[key] = pool.submit(train, run)
        try:
            for key in wanted:
                yield futures[key].result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
