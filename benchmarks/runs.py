"""Runs of examples/train.py, kept in folders named after their settings, so that nothing is trained twice.

A run never sees a test target: `--rank_test false`. What it leaves is a model and its learning curve on validation. A
folder is named after data, settings and seed, and not after the code: `run.json` says which code trained it, and a run
of other code is used with a warning.
"""

import hashlib
import json
import logging
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
import transformers
import yaml
from bases import base_digest
from filelock import FileLock

import e4srec_hf
from e4srec_hf import SASRecConfig
from e4srec_hf.data import build_item_tokenizer, catalogue_of, load_sequences

TRAIN = Path(__file__).parent.parent / "examples" / "train.py"
STATE = "trainer_state.json"
#: What a run has from elsewhere than its settings.
NO_SETTINGS = ("output_dir", "dataset", "seed", "overwrite", "rank_test", "resume_from_checkpoint", "base_model")
#: Settings of the data: whoever changes them for an adapter changes them for its SASRec.
OF_THE_DATA = ("max_history", "all_targets")
#: Settings of the adapter's training in a recipe that SASRec's follows too.
SHARED_WITH_SASREC = (*OF_THE_DATA, "exclude_seen", "lr_scheduler_type", "warmup_steps", "bf16")

logger = logging.getLogger(__name__)


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
        base: What an adapter stands on; ``None`` is the small base that train.py makes.
    """

    dataset: Path
    settings: dict[str, Any]
    seed: int
    vectors: "Run | Path | None" = None
    base: Path | None = None

    @cached_property
    def key(self) -> str:
        """Says what is trained: equal keys, equal runs."""
        vectors = self.vectors.key if isinstance(self.vectors, Run) else self.vectors and digest(self.vectors)
        content = [digest(self.dataset), self.settings, self.seed, vectors]
        if self.base is not None:
            content.append(base_digest(self.base))
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
        if self.base is not None:
            flags["base_model"] = self.base
        config = self.folder(cache) / "settings.yaml"
        given = [part for name, value in flags.items() for part in (f"--{name}", str(value))]
        return [sys.executable, str(TRAIN), "--config", str(config), "--dataset", str(self.dataset), *given]

    def train(self, cache: Path) -> "Trained":
        """Train it, or go on where it stopped, or read what an earlier call left."""
        folder = self.folder(cache)
        done = folder / "run.json"
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):  # another benchmark may want the same
            if not done.is_file():
                seconds = self._train(cache)
                states = {int(path.parent.name.split("-")[1]): path for path in folder.glob(f"**/{STATE}")}
                log = json.loads(states[max(states)].read_text(encoding="utf-8"))["log_history"]
                content = {
                    "settings": self.settings,
                    "seed": self.seed,
                    "code": code_digest(),
                    "seconds": seconds,
                    "first_loss": next(entry["loss"] for entry in log if "loss" in entry),
                    "curve": learning_curve(log),
                }
                part = folder / ".run.json.part"
                part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
                part.replace(done)
                for checkpoint in folder.glob("**/checkpoint-*"):
                    shutil.rmtree(checkpoint)
        found = json.loads(done.read_text(encoding="utf-8"))
        if found["code"] != code_digest():
            logger.warning(f"{folder} was trained by other code than this. Remove it to train it again.")
        first_loss = found.get("first_loss", found["curve"][0]["loss"])
        return Trained(self, self.model_folder(cache), found["curve"], first_loss, found["code"], found["seconds"])

    def _train(self, cache: Path) -> float:
        """Seconds that it took, without those after the last checkpoint before an interruption."""
        folder = self.folder(cache)
        (folder / "settings.yaml").write_text(yaml.safe_dump(self.settings, allow_unicode=True), encoding="utf-8")
        for checkpoint in folder.glob("**/checkpoint-*"):
            if not (checkpoint / STATE).is_file():  # written last: the run was interrupted before
                shutil.rmtree(checkpoint)
        states = [path.stat().st_mtime for path in folder.glob(f"**/{STATE}")]
        how = ["--resume_from_checkpoint", "true"] if states else ["--overwrite", "true"]
        clock, spent = folder / "clock.json", 0.0
        if states and clock.is_file():
            before = json.loads(clock.read_text(encoding="utf-8"))
            spent = before["spent"] + max(max(states) - before["begin"], 0)
        begin = time.time()  # as files are dated
        clock.write_text(json.dumps({"spent": spent, "begin": begin}), encoding="utf-8")
        with (folder / "log.txt").open("a", encoding="utf-8") as log:
            code = subprocess.run(
                # with one checkpoint the last epoch's goes at the end, and its log with it
                [*self.command(cache), *how, "--disable_tqdm", "true", "--save_total_limit", "2"],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {"OMP_NUM_THREADS": "1"},  # sums, and so figures, depend on how many there are
                check=False,
            ).returncode
        if code:
            tail = (folder / "log.txt").read_text(encoding="utf-8").splitlines()[-15:]
            raise RuntimeError(f"{shlex.join(self.command(cache))}\nfailed with {code}:\n" + "\n".join(tail))
        return spent + time.time() - begin


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Attributes:
        run: What was trained.
        folder: The model, as `AutoModel` loads it.
        curve: An entry an epoch: ``epoch``, ``loss``, and ``hr@10`` and ``ndcg@10`` on validation.
        first_loss: The first that was logged: of an epoch, or of a step with ``logging_first_step``.
        code: Digest of the code that trained it.
        seconds: Wall time of the training process, whatever ran beside it.
    """

    run: Run
    folder: Path
    curve: list[dict[str, float]]
    first_loss: float
    code: str
    seconds: float

    @property
    def best(self) -> dict[str, float]:
        """The epoch that was selected: the best on validation."""
        return max(self.curve, key=lambda entry: entry["ndcg@10"])


def learning_curve(log: list[dict[str, float]]) -> list[dict[str, float]]:
    """The log of a `Trainer`, an entry an epoch."""
    losses = {entry["epoch"]: entry["loss"] for entry in log if "loss" in entry}
    return [
        {
            "epoch": entry["epoch"],
            "loss": losses[entry["epoch"]],
            "hr@10": entry["eval_hr@10"],
            "ndcg@10": entry["eval_ndcg@10"],
        }
        for entry in log
        if "eval_ndcg@10" in entry
    ]


@lru_cache
def code_digest() -> str:
    """Of all code that training runs through, the installed package's and the script's, and of the versions below."""
    package = Path(e4srec_hf.__file__).parent
    files = [*sorted(package.glob("**/*.py")), TRAIN]
    versions = [module.__version__ for module in (torch, transformers, peft)]
    return hashlib.sha256(json.dumps([*map(digest, files), versions]).encode()).hexdigest()[:16]


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def make_run(
    dataset: Path,
    recipe: dict[str, Any],
    changes: dict[str, Any],
    seed: int,
    cache: Path,
    base: Path | None = None,
) -> Run:
    """A recipe with some changes as a run.

    Args:
        dataset: The sequences.
        recipe: Settings of train.py, of both stages.
        changes: Settings that differ; ``None`` leaves one to the default of train.py. ``model: sasrec`` makes a SASRec.
            An adapter's SASRec is the recipe's, whatever is changed of the adapter, unless ``sasrec_…`` or a setting of
            the data is changed, or ``item_embeddings`` takes its place: a file, or ``random``.
        seed: Of both stages.
        cache: Where random item vectors are written.
        base: What an adapter stands on; ``None`` is the small base that train.py makes.

    Raises:
        ValueError: If a setting is none of a recipe.
    """
    if wrong := sorted((recipe | changes).keys() & set(NO_SETTINGS)):
        raise ValueError(f"{', '.join(wrong)} cannot be set for a run: leave it out.")
    settings = without_defaults(recipe | changes)
    only_sasrec = settings.pop("model", "e4srec") == "sasrec"
    of_both = {k: v for k, v in changes.items() if k.startswith("sasrec_") or k in OF_THE_DATA}
    for_sasrec = settings if only_sasrec else without_defaults(recipe | of_both)
    sasrec = {k: v for k, v in for_sasrec.items() if k.startswith("sasrec_") or k in SHARED_WITH_SASREC}
    if only_sasrec:
        return Run(dataset, sasrec, seed)
    source = settings.pop("item_embeddings", None)
    vectors: Run | Path = Run(dataset, sasrec, seed) if source is None else Path(source).absolute()
    if source == "random":
        vectors = random_vectors(dataset, sasrec["sasrec_hidden_size"], seed, cache)
    return Run(dataset, {k: v for k, v in settings.items() if not k.startswith("sasrec_")}, seed, vectors, base)


def without_defaults(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings without those that are ``None``."""
    return {name: value for name, value in settings.items() if value is not None}


def random_vectors(dataset: Path, width: int, seed: int, cache: Path) -> Path:
    """A file of item vectors as a SASRec starts with them."""
    path = cache / f"random-{digest(dataset)[:16]}-{width}-{seed}.npy"
    rows = len(build_item_tokenizer(catalogue_of(load_sequences(str(dataset)))))
    cache.mkdir(parents=True, exist_ok=True)
    vectors = np.random.default_rng(seed).normal(scale=SASRecConfig().initializer_range, size=(rows, width))
    np.save(path, vectors.astype(np.float32))
    return path


def train_all(runs: Iterable[Run], cache: Path, jobs: int) -> Iterator[Trained]:
    """Train ``jobs`` at a time, each on one core, the SASRecs that others build on first."""
    wanted = {run.key: run for run in runs}
    vectors = {run.vectors.key: run.vectors for run in wanted.values() if isinstance(run.vectors, Run)}
    futures: dict[str, Future[Trained]] = {}

    def train(run: Run) -> Trained:
        if isinstance(run.vectors, Run):
            futures[run.vectors.key].result()
        return run.train(cache)

    with ThreadPoolExecutor(jobs) as pool:
        for key, run in {**vectors, **wanted}.items():
            futures[key] = pool.submit(train, run)
        try:
            for key in wanted:
                yield futures[key].result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
