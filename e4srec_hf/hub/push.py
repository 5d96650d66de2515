"""Pushing to the Hub: one commit that holds what an adapter repo is made of and nothing else, or no change at all."""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerBase
from transformers.utils import cached_file, logging

from ..files import BASE_FOLDER, EVALUATION_NAME, OPTIONAL_FILES, REQUIRED_FILES, is_model_file
from ..modeling.saving import BASE_FILES, WEIGHTS_NAME, AtomicSaveMixin

logger = logging.get_logger(__name__)

#: Of the files of a model, those that hold figures of its weights and its catalogue.
EVALUATION_FILES = ("README.md", EVALUATION_NAME)


def travelling_files(directory: str | os.PathLike[str]) -> dict[str, Path]:
    """The files of a saved model that go to the Hub: name in the repo to file.

    Raises:
        FileNotFoundError: If one is missing; it is named.
        ValueError: If the item tokenizer does not fit, or the base is a folder outside, which nobody else has.
    """
    folder = Path(directory)
    if missing := [name for name in REQUIRED_FILES if not (folder / name).is_file()]:
        raise FileNotFoundError(
            f"{folder} lacks {', '.join(missing)}: save model and item tokenizer there with save_trained(...) first."
        )
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    n_tokens = len(json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"])
    if n_tokens != config["vocab_size"]:
        raise ValueError(
            f"The item tokenizer in {folder} has {n_tokens} tokens, the model {config['vocab_size']}: it is another "
            "catalogue's. Give the right one with tokenizer=."
        )
    names = [name for name in (*REQUIRED_FILES, *OPTIONAL_FILES) if (folder / name).is_file()]
    files = {name: folder / name for name in [*names, *(file.name for file in folder.glob("*.py"))]}
    base = config.get("base_model_name_or_path")
    if base == f"./{BASE_FOLDER}":
        found = {file for pattern in BASE_FILES for file in (folder / BASE_FOLDER).glob(pattern)}
        if not found:
            raise FileNotFoundError(
                f"{folder} was trained on a base in its folder {BASE_FOLDER}, but that is not there."
            )
        files |= {f"{BASE_FOLDER}/{file.name}": file for file in found}
    elif base is not None and (base.startswith(".") or os.path.isabs(base)):
        raise ValueError(
            f"The base is a folder on this machine, {base}, which nobody else has. Push it to a repo of its own, load "
            "the adapter with base_model=<its id>, and push that; or send the base along with "
            "model.push_to_hub(..., with_base=True)."
        )
    return dict(sorted(files.items()))


def push_folder(
    directory: str | os.PathLike[str],
    repo_id: str,
    *,
    commit_message: str | None = None,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
) -> CommitInfo:
    """Push a saved model as one commit. Where that fails, the Hub is left as it was.

    Only what makes up a model is sent, never checkpoints or anything pickled. What an earlier push sent and this model
    does not have, its figures or its base among it, is deleted in the same commit; other files stay.

    Args:
        directory: Folder of the model, with its item tokenizer.
        repo_id: ``org/name``; made where it does not exist.
        commit_message: Message of the commit.
        private: Whether a repo that is made is private.
        token: Of an account that may write.
        revision: Branch; made where it does not exist.
        create_pr: Make a pull request of it.

    Raises:
        FileNotFoundError: If a file that loading needs is missing.
        ValueError: If the base is a folder that nobody else has.
    """
    files = travelling_files(directory)
    api = HfApi(token=token)
    with rollback_on_error(api, repo_id, private, None if create_pr else revision):
        there = api.list_repo_files(repo_id, revision=revision)
        known = {file.name for file in Path(__file__).parent.glob("*.py")}  # other code is not a push's
        stale = [
            name
            for name in there
            if name not in files and is_model_file(name) and (name in known or not name.endswith(".py"))
        ]
        return api.create_commit(
            repo_id,
            [
                *(CommitOperationAdd(name, _for_repo(file, repo_id)) for name, file in files.items()),
                *(CommitOperationDelete(name) for name in stale),
            ],
            commit_message=commit_message or f"Upload {Path(directory).name}",
            revision=revision,
            create_pr=create_pr,
        )


def _for_repo(file: Path, repo_id: str) -> Path | bytes:
    """A file, or what it is to say on the Hub: the example on the card loads the repo."""
    if file.name != "README.md":
        return file
    before, heading, after = file.read_text(encoding="utf-8").partition("\n## Use\n")
    example, next_heading, rest = after.partition("\n## ")
    example = re.sub(r"""(from_pretrained\()("[^"\n]*"|'[^'\n]*')""", lambda found: f'{found[1]}"{repo_id}"', example)
    return f"{before}{heading}{example}{next_heading}{rest}".encode()


@contextmanager
def rollback_on_error(api: HfApi, repo_id: str, private: bool | None, branch: str | None) -> Iterator[None]:
    """Make repo and branch where they do not exist, and remove them again if what follows fails."""
    made = made_branch = False
    if not api.repo_exists(repo_id):  # who may push need not be allowed to create
        api.create_repo(repo_id, private=private)
        made = True
    try:
        if branch is not None and not api.revision_exists(repo_id, branch):
            api.create_branch(repo_id, branch=branch)
            made_branch = True
        yield
    except BaseException:
        if made:
            api.delete_repo(repo_id, missing_ok=True)
        elif made_branch:
            api.delete_branch(repo_id, branch=str(branch))
        raise


class PushMixin(AtomicSaveMixin):
    """``push_to_hub`` for a model: everything that it is loaded from, in one commit."""

    def push_to_hub(  # type: ignore[override]
        self,
        repo_id: str,
        *,
        tokenizer: PreTrainedTokenizerBase | None = None,
        with_base: bool = False,
        dtype: torch.dtype | None = None,
        commit_message: str | None = None,
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        **kwargs: Any,
    ) -> CommitInfo:
        """Push the weights as they are now, with config, code and item tokenizer, and the card if there is one.

        Card and figures that are of other weights or another catalogue, for the model has changed since they were
        written, stay behind: `save_trained`, rank and `refresh_model_card` make new ones.

        Args:
            repo_id: ``org/name``; made where it does not exist.
            tokenizer: The item tokenizer. By default the one beside which the model was saved or loaded, with the card
                and the titles that are there.
            with_base: Send along a base that is a folder on this machine. One that lies in the folder of the model, as
                ``base``, goes along in any case.
            dtype: Of the weights in the file, as for `save_pretrained`.
            commit_message: Message of the commit.
            private: Whether a repo that is made is private.
            token: Of an account that may write.
            revision: Branch; made where it does not exist.
            create_pr: Make a pull request of it.
            kwargs: Options of `PreTrainedModel.push_to_hub` that have no meaning for one small file are ignored.

        Raises:
            FileNotFoundError: If the item tokenizer is not to be found.
            ValueError: If the base is a folder on this machine and ``with_base`` is not set.
        """
        with tempfile.TemporaryDirectory() as stage:
            if not (unchanged := self._is_as_saved(token)):
                logger.warning(
                    "The model is not as it was saved: card and figures stay behind. save_trained makes a card."
                )
            for name in (*REQUIRED_FILES[2:], *OPTIONAL_FILES):
                if name in EVALUATION_FILES and not unchanged:
                    continue
                if (file := self._beside(name, token)) is not None:
                    shutil.copyfile(file, Path(stage, name))
            if tokenizer is not None:
                tokenizer.save_pretrained(stage)
            base = getattr(self.config, "base_model_name_or_path", None)
            beside = self._beside(f"{BASE_FOLDER}/config.json", token)
            inside = beside is not None and os.path.dirname(os.path.abspath(beside)) == os.path.abspath(base or "")
            if (with_base or inside) and base is not None and os.path.isdir(base):
                self.config.base_model_name_or_path = shutil.copytree(base, Path(stage).absolute() / BASE_FOLDER)
            try:
                self.save_pretrained(stage, dtype=dtype)
            finally:
                if base is not None:
                    self.config.base_model_name_or_path = base
            return push_folder(
                stage,
                repo_id,
                commit_message=commit_message or f"Upload {type(self).__name__}",
                private=private,
                token=token,
                revision=revision,
                create_pr=create_pr,
            )

    def _is_as_saved(self, token: str | bool | None) -> bool:
        """Whether weights and catalogue are those of the files where the model was saved or loaded."""
        weights, config = (self._beside(name, token) for name in (WEIGHTS_NAME, "config.json"))
        if weights is None or config is None:
            return False
        retired = json.loads(Path(config).read_text(encoding="utf-8")).get("retired_items") or []
        mine, saved = self.state_dict(), load_file(weights)
        return (
            retired == self.config.retired_items
            and set(saved) == set(self.saved_keys())
            and all(torch.equal(tensor.to(mine[name]), mine[name]) for name, tensor in saved.items())
        )

    def _beside(self, name: str, token: str | bool | None) -> str | None:
        """A file that lies where the model was saved or loaded."""
        source = self.config.name_or_path
        if not source:
            return None
        if os.path.isdir(source):
            return found if os.path.isfile(found := os.path.join(source, name)) else None
        commit = getattr(self.config, "_commit_hash", None)
        return cached_file(source, name, revision=commit, token=token, _raise_exceptions_for_missing_entries=False)
