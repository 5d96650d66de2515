"""Saving and strict loading: one safetensors file, never half-written, never quietly incomplete."""

import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.dynamic_module_utils import custom_object_save
from transformers.utils import cached_file, logging

WEIGHTS_NAME = "model.safetensors"
#: In the name of a folder where files are written before they move.
STAGE = ".e4srec-saving-"
#: Files of the item tokenizer.
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
#: Files of a base inside an adapter's repo.
BASE_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
#: Options of `PreTrainedModel.save_pretrained` without a meaning for one small file.
WITHOUT_MEANING = {"max_shard_size", "safe_serialization", "save_peft_format", "save_original_format"}

logger = logging.get_logger(__name__)


@contextmanager
def staged_directory(directory: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a folder whose files move to ``directory`` once the block has ended without an error.

    A new ``directory`` appears whole. In one that exists, each file is replaced whole, and other files stay. Files get
    the umask's mode. What a killed process left is removed.
    """
    final = Path(os.path.realpath(directory))  # a link stays
    if final.exists() and not final.is_dir():
        raise NotADirectoryError(f"{final} is a file; a folder is needed to save to")
    final.parent.mkdir(parents=True, exist_ok=True)
    for left in [*final.glob(f"{STAGE}*"), *final.parent.glob(f"{STAGE}*")]:
        with _locked(left) as held:
            if held:
                shutil.rmtree(left, ignore_errors=True)
    # inside a folder that exists: it may be a mount point, where nothing can be renamed to from outside
    stage = Path(tempfile.mkdtemp(prefix=".e4srec-new-", dir=final if final.is_dir() else final.parent))
    try:
        with _locked(stage):  # before it has the name that others clear
            stage = stage.rename(stage.with_name(f"{STAGE}{stage.name[-8:]}"))
            yield stage
            (plain := stage / ".mode").touch()
            mode = stat.S_IMODE(plain.stat().st_mode)  # safetensors and mkdtemp make private files and folders
            plain.unlink()
            for path in (stage, *stage.rglob("*")):
                path.chmod(mode if path.is_file() else mode | (mode & 0o444) >> 2 | path.stat().st_mode & stat.S_ISGID)
            if not final.is_dir():
                stage.rename(final)
                return
            # weights first and config last: if a process dies in between, they do not fit together
            files = [path for path in stage.rglob("*") if path.is_file()]
            for file in files:
                (target := final / file.relative_to(stage)).parent.mkdir(parents=True, exist_ok=True)
                if target.is_dir():
                    raise IsADirectoryError(f"{target} is a folder; a file is to be saved there")
            for file in sorted(files, key=lambda file: (file.name == "config.json", file.name != WEIGHTS_NAME, file)):
                os.replace(file, final / file.relative_to(stage))
    finally:
        shutil.rmtree(stage, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Hold a folder until the block ends or the process dies; false where another process does, or it is a link."""
    with ExitStack() as opened:
        try:
            handle = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
            opened.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = True
        except (OSError, AttributeError):  # Windows has none of these: what a killed process left stays there
            held = False
        yield held


def check_saved(weights_file: str | os.PathLike[str], recorded: str | None) -> None:
    """Raise a `ValueError` if files of two saves are in a folder, as a process leaves it that is killed in between."""
    if recorded not in (None, weights_digest(weights_file)):
        raise ValueError(
            f"{weights_file} and its config.json are of different saves: get both from one, or delete weights_digest."
        )


def weights_digest(file: str | os.PathLike[str]) -> str:
    """A digest of a file's size, its first and its last 8 MiB: LoRA stands first, the head last."""
    with open(file, "rb") as stream:
        start, size = stream.read(2**23), stream.seek(0, os.SEEK_END)
        stream.seek(max(size - 2**23, 0))
        return hashlib.sha256(b"%d " % size + start + stream.read()).hexdigest()[:32]


def compare_shapes(found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int | None, ...]]) -> list[str]:
    """What is wrong with the tensors of a file, one line each; ``None`` in an expected shape is any size."""
    problems = [f"missing: {name}" for name in expected if name not in found]
    problems += [f"surplus: {name}" for name in found if name not in expected]
    for name, shape in expected.items():
        fits = [want in (None, got) for want, got in zip_longest(shape, found.get(name, shape), fillvalue=-1)]
        if not all(fits):
            want = tuple("any" if size is None else size for size in shape)
            problems.append(f"misshapen: {name} is {found[name]} in the file, the model needs {want}")
    return problems


def load_strictly(model: nn.Module, file: str | os.PathLike[str], expected: Mapping[str, Tensor]) -> None:
    """Copy the tensors of a safetensors file into ``model``.

    It is a `ValueError` that names each tensor if they are not exactly the ``expected`` ones.
    """
    try:
        stored = safe_open(file, framework="pt")
    except SafetensorError as error:
        raise ValueError(f"{file} is not a complete safetensors file ({error}): was its download complete?") from error
    with stored:
        shapes = {name: tuple(stored.get_slice(name).get_shape()) for name in stored.keys()}  # noqa: SIM118
        if problems := compare_shapes(shapes, {name: tuple(tensor.shape) for name, tensor in expected.items()}):
            raise ValueError(
                f"{file} does not fit this model:\n  " + "\n  ".join(problems) + "\n"
                "Is it the file that belongs to this config.json, and the base the one it was trained on?"
            )
        tensors = {name: stored.get_tensor(name) for name in shapes}
    model.load_state_dict(tensors, strict=False)


class AtomicSaveMixin(PreTrainedModel):
    """``save_pretrained`` for a model that knows, in ``saved_keys()``, which of its tensors make it up."""

    def saved_keys(self) -> list[str]:
        """Names of the tensors that the file holds; all of them unless a model says less."""
        return list(self.state_dict())

    def save_pretrained(  # type: ignore[override]
        self,
        save_directory: str | os.PathLike[str],
        is_main_process: bool = True,
        state_dict: dict[str, Tensor] | None = None,
        push_to_hub: bool = False,
        dtype: torch.dtype | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        **kwargs: Any,
    ) -> None:
        """Write ``config.json``, ``model.safetensors``, the item tokenizer and the Python files, all or nothing.

        Args:
            save_directory: The folder.
            is_main_process: Nothing is written where this is false.
            state_dict: The weights, where a distributed trainer has gathered them.
            push_to_hub: Push afterwards; ``kwargs`` then go to `push_to_hub`, ``repo_id`` among them.
            dtype: Of the weights in the file; by default float32. ``torch.bfloat16`` halves an adapter's file.
            tokenizer: The item tokenizer; by default the one where the model was saved or loaded, if it still fits.
            kwargs: See ``push_to_hub``. Options for sharding and formats have no meaning for one small file.

        Raises:
            TypeError: If an argument is not known.
        """
        kwargs = {name: value for name, value in kwargs.items() if name not in WITHOUT_MEANING}
        if kwargs and not push_to_hub:
            raise TypeError(f"save_pretrained() does not know the argument(s) {', '.join(sorted(kwargs))}")
        if not is_main_process:
            return
        weights = self.state_dict() if state_dict is None else state_dict
        weights = {name: weights[name].detach().contiguous() for name in self.saved_keys()}
        if dtype is not None:
            weights = {name: w.to(dtype) if w.is_floating_point() else w for name, w in weights.items()}
        self.config.architectures = [type(self).__name__]
        self.config.dtype = str(self.dtype).removeprefix("torch.")
        if tokenizer is not None and len(tokenizer) != self.config.vocab_size:
            raise ValueError(f"tokenizer has {len(tokenizer)} items and special tokens, not {self.config.vocab_size}.")
        with staged_directory(save_directory) as stage:
            if tokenizer is not None:
                tokenizer.save_pretrained(stage)
            else:
                self._keep_tokenizer(Path(save_directory), stage)
            custom_object_save(self, stage, config=self.config)  # type: ignore[arg-type]
            save_file(weights, stage / WEIGHTS_NAME, metadata={"format": "pt"})
            self.config.weights_digest = weights_digest(stage / WEIGHTS_NAME)
            self.config.save_pretrained(stage)
        if push_to_hub:
            self.push_to_hub(kwargs.pop("repo_id", Path(save_directory).name), **kwargs)

    def _keep_tokenizer(self, directory: Path, stage: Path) -> None:
        """Copy the item tokenizer from where the model was saved or loaded, if ``directory`` has none."""
        here = directory / TOKENIZER_FILES[0]
        try:
            files = [here] if here.exists() else [self.file_beside(name) for name in TOKENIZER_FILES]
        except OSError:  # the folder or the repo is gone
            return
        if None in files:
            return
        if len(json.loads(Path(str(files[0])).read_bytes())["model"]["vocab"]) != self.config.vocab_size:
            logger.warning(f"{files[0]} is for another catalogue than this model: save the tokenizer of its items too.")
        elif files[0] is not here:
            for file in files:
                shutil.copy(str(file), stage)

    def file_beside(self, name: str, token: str | bool | None = None) -> str | None:
        """A file that lies where the model was saved or loaded, in a folder or at a commit on the Hub."""
        source = self.config.name_or_path
        if not source or os.path.isdir(source) or os.path.isabs(source):
            return found if source and os.path.isfile(found := os.path.join(source, name)) else None
        commit = getattr(self.config, "_commit_hash", None)
        return cached_file(source, name, revision=commit, token=token, _raise_exceptions_for_missing_entries=False)
