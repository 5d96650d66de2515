"""Saving and strict loading: one safetensors file, never half-written, never quietly incomplete."""

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
from transformers import PreTrainedModel
from transformers.dynamic_module_utils import custom_object_save

WEIGHTS_NAME = "model.safetensors"
#: Files of a base that travels inside an adapter's repo.
BASE_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")


@contextmanager
def staged_directory(directory: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a folder beside ``directory`` whose files move there once the block has ended without an error.

    A new ``directory`` appears whole. In one that exists, files are replaced one by one, each of them whole, and
    what else stands there stays.
    """
    final = Path(directory).absolute()
    if final.exists() and not final.is_dir():
        raise NotADirectoryError(f"{final} is a file; a folder is needed to save to")
    final.parent.mkdir(parents=True, exist_ok=True)
    stage = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
    try:
        yield stage
        stage.chmod(0o777 & ~_umask())  # mkdtemp makes a private folder
        if not final.exists():
            stage.rename(final)
            return
        for file in sorted(path for path in stage.rglob("*") if path.is_file()):
            target = final / file.relative_to(stage)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, target)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def load_strictly(model: nn.Module, file: str | os.PathLike[str], expected: Mapping[str, Tensor]) -> None:
    """Copy the tensors of a safetensors file into ``model``.

    Args:
        model: What to load into.
        file: The safetensors file.
        expected: The tensors that the file must hold, no more and no less, as ``model`` has them now.

    Raises:
        ValueError: If a tensor is missing, surplus or misshapen; it names every one of them.
    """
    try:
        stored = safe_open(file, framework="pt")
    except SafetensorError as error:
        raise ValueError(f"{file} is no whole safetensors file ({error}): was its download complete?") from error
    with stored:
        shapes = {name: tuple(stored.get_slice(name).get_shape()) for name in stored.keys()}  # noqa: SIM118
        problems = [f"missing: {name}" for name in expected if name not in shapes]
        problems += [f"surplus: {name}" for name in shapes if name not in expected]
        problems += [
            f"misshapen: {name} is {shapes[name]} in the file, the model needs {tuple(tensor.shape)}"
            for name, tensor in expected.items()
            if name in shapes and shapes[name] != tuple(tensor.shape)
        ]
        if problems:
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
        **kwargs: Any,
    ) -> None:
        """Write ``config.json``, ``model.safetensors`` and the Python files that load them.

        The files are written beside the folder and moved in when all of them are complete.

        Args:
            save_directory: The folder; made where it does not exist.
            is_main_process: Nothing is written where this is false.
            state_dict: The weights, where a distributed trainer has gathered them.
            push_to_hub: Push afterwards; ``kwargs`` then go to `push_to_hub`, ``repo_id`` among them.
            kwargs: Options of `PreTrainedModel.save_pretrained` that have no meaning for one small file are ignored.
        """
        if not is_main_process:
            return
        weights = self.state_dict() if state_dict is None else state_dict
        weights = {name: weights[name].detach().contiguous() for name in self.saved_keys()}
        self.config.architectures = [type(self).__name__]
        self.config.dtype = str(self.dtype).removeprefix("torch.")
        with staged_directory(save_directory) as stage:
            custom_object_save(self, stage, config=self.config)  # type: ignore[arg-type]
            self.config.save_pretrained(stage)
            save_file(weights, stage / WEIGHTS_NAME, metadata={"format": "pt"})
        if push_to_hub:
            repo_id = kwargs.pop("repo_id", Path(save_directory).name)
            self.push_to_hub(repo_id, **kwargs)


def make_trained_weights_float32(model: nn.Module) -> None:
    """Make every weight that is trained float32, whatever the dtype of the base.

    They move to memory of their own: the alignment of a tensor that is mapped from a file changes the last bit of a
    matrix product, and a reloaded model must equal the saved one.
    """
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32, copy=True)
