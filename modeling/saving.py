"""Saving and strict loading: one safetensors file, never half-written, never quietly incomplete."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.dynamic_module_utils import custom_object_save
from transformers.utils import cached_file

WEIGHTS_NAME = "model.safetensors"
#: Files of the item tokenizer.
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
#: Files of a base inside an adapter's repo.
BASE_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
#: Options of `PreTrainedModel.save_pretrained` without a meaning for one small file.
WITHOUT_MEANING = {"max_shard_size", "safe_serialization", "save_peft_format", "save_original_format"}


@contextmanager
def staged_directory(directory: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a folder beside ``directory`` whose files move there once the block has ended without an error.

    A new ``directory`` appears whole. In one that exists, each file is replaced whole, and other files stay.
    """
    final = Path(directory).absolute()
    if final.exists() and not final.is_dir():
        raise NotADirectoryError(f"{final} is a file; a folder is needed to save to")
    final.parent.mkdir(parents=True, exist_ok=True)
    stage = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
    try:
        yield stage
        os.umask(umask := os.umask(0))
        stage.chmod(0o777 & ~umask)  # mkdtemp makes a private folder
        if not final.exists():
            stage.rename(final)
            return
        for file in sorted(path for path in stage.rglob("*") if path.is_file()):
            target = final / file.relative_to(stage)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, target)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def compare_shapes(found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int | None, ...]]) -> list[str]:
    """What is wrong with the tensors of a file, one line each; ``None`` in an expected shape is any size."""
    problems = [f"missing: {name}" for name in expected if name not in found]
    problems += [f"surplus: {name}" for name in found if name not in expected]
    for name, shape in expected.items():
        if name in found and (
            len(found[name]) != len(shape)
            or any(want not in (None, got) for want, got in zip(shape, found[name], strict=True))
        ):
            want = tuple("any" if size is None else size for size in shape)
            problems.append(f"misshapen: {name} is {found[name]} in the file, the model needs {want}")
    return problems


def load_strictly(model: nn.Module, file: str | os.PathLike[str], expected: Mapping[str, Tensor]) -> None:
    """Copy the tensors of a safetensors file, which must hold exactly the ``expected`` ones, into ``model``.

    Raises:
        ValueError: If a tensor is missing, surplus or misshapen; every one of them is named.
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
            save_directory: The folder; created where it does not exist.
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
        with staged_directory(save_directory) as stage:
            if tokenizer is not None:
                tokenizer.save_pretrained(stage)
            elif not Path(save_directory, TOKENIZER_FILES[0]).exists():
                self._copy_tokenizer(stage)
            custom_object_save(self, stage, config=self.config)  # type: ignore[arg-type]
            self.config.save_pretrained(stage)
            save_file(weights, stage / WEIGHTS_NAME, metadata={"format": "pt"})
        if push_to_hub:
            self.push_to_hub(kwargs.pop("repo_id", Path(save_directory).name), **kwargs)

    def _copy_tokenizer(self, directory: Path) -> None:
        """Copy the item tokenizer from where the model was saved or loaded, if it has this catalogue."""
        try:
            files = [self.file_beside(name) for name in TOKENIZER_FILES]
        except OSError:  # the folder or the repo is gone
            return
        if None in files:
            return
        content = json.loads(Path(str(files[0])).read_text(encoding="utf-8"))
        if len(content.get("model", {}).get("vocab", ())) == self.config.vocab_size:
            for file in files:
                shutil.copy(str(file), directory)

    def file_beside(self, name: str, token: str | bool | None = None) -> str | None:
        """A file that lies where the model was saved or loaded, in a folder or at a commit on the Hub."""
        source = self.config.name_or_path
        if not source or os.path.isdir(source) or os.path.isabs(source):
            return found if source and os.path.isfile(found := os.path.join(source, name)) else None
        commit = getattr(self.config, "_commit_hash", None)
        return cached_file(source, name, revision=commit, token=token, _raise_exceptions_for_missing_entries=False)


def make_trained_weights_float32(model: nn.Module) -> None:
    """Make every trained weight float32, in memory of its own.

    The alignment of a tensor that is mapped from a file changes the last bit of a matrix product.
    """
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32, copy=True)
