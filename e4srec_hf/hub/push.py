"""Push a model to the Hub as one commit with exactly the files of a model, or leave the Hub as it was."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from ..cards.model_card import refresh_model_card
from ..errors import reaching_hub
from ..evaluation.fingerprint import file_fingerprint, folder_fingerprint, model_fingerprint
from ..evaluation.reports import Evaluation, load_evaluation
from ..files import (
    BASE_FOLDER,
    CARD_NAME,
    CONFIG_NAME,
    EVALUATION_NAME,
    MODEL_FILES,
    OPTIONAL_FILES,
    REQUIRED_FILES,
    check_whole,
    code_files,
    is_model_file,
    open_weights,
    read_json,
    write_json,
)
from ..modeling.saving import BASE_FILES, TOKENIZER_FILES, WEIGHTS_NAME, AtomicSaveMixin
from .verify.released_code import file_names

logger = logging.get_logger(__name__)


def push(
    model_or_folder: AtomicSaveMixin | str | os.PathLike[str],
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
) -> CommitInfo:
    """Push a model, or the folder of a saved model, as one commit. If that fails, the Hub is left as it was.

    The commit has weights, config, code and item tokenizer, the model card and the other files of a model, but no
    checkpoint and nothing pickled. It deletes files of a model that an earlier push sent and this model does not have;
    other files stay.

    A model is pushed with its present weights. If weights or catalogue have changed since it was saved or loaded, its
    metrics are left out, and a card without them is written.

    Args:
        model_or_folder: A model, or the folder of a saved model with its item tokenizer.
        repo_id: ``org/name``; created if it does not exist.
        tokenizer: Item tokenizer of a model; by default the one in the folder or repo that the model was saved to or
            loaded from. Titles and facts of the training are taken from there too.
        with_base: Whether to include the base of a model if it is a folder on this machine; a GGUF file is not sent.
            A base in the folder ``base`` of the model is always included.
        dtype: Dtype of a model's weights in the file, as for `save_pretrained`.
        commit_message: Commit message.
        private: Visibility, if the repo is created.
        token: Token of an account that may write.
        revision: Branch; created if it does not exist.
        create_pr: Whether to open a pull request with the commit.

    Returns:
        The commit.

    Raises:
        FileNotFoundError: If a file that loading needs is missing, such as the item tokenizer.
        ValueError: If the item tokenizer does not fit the model, the base is a folder outside the repo, or an option
            for models is given with a folder.
    """
    with tempfile.TemporaryDirectory() as stage:
        if isinstance(model_or_folder, str | os.PathLike):
            if tokenizer is not None or with_base or dtype is not None:
                raise ValueError("A folder is pushed as it is: tokenizer, with_base and dtype are for models.")
            folder = model_or_folder
        else:
            _save_for_push(model_or_folder, stage, repo_id, tokenizer, with_base, dtype, token)
            folder = stage
            commit_message = commit_message or f"Upload {type(model_or_folder).__name__}"
        return push_folder(
            folder,
            repo_id,
            commit_message=commit_message,
            private=private,
            token=token,
            revision=revision,
            create_pr=create_pr,
        )


def _save_for_push(
    model: AtomicSaveMixin,
    directory: str,
    repo_id: str,
    tokenizer: PreTrainedTokenizerBase | None,
    with_base: bool,
    dtype: torch.dtype | None,
    token: str | bool | None,
) -> None:
    """Save a model to an empty folder, with its base and with the files beside it that still belong to it."""
    for name in (*TOKENIZER_FILES, *OPTIONAL_FILES):
        if (file := model.file_beside(name, token)) is not None:
            shutil.copyfile(file, Path(directory, name))
    base = getattr(model.config, "base_model_name_or_path", None)
    beside = model.file_beside(f"{BASE_FOLDER}/{CONFIG_NAME}", token)
    inside = beside is not None and os.path.dirname(os.path.abspath(beside)) == os.path.abspath(base or "")
    if (with_base or inside) and base is not None and os.path.isdir(base):
        model.config.base_model_name_or_path = shutil.copytree(base, Path(directory).absolute() / BASE_FOLDER)
    try:
        model.save_pretrained(directory, dtype=dtype, tokenizer=tokenizer)
    finally:
        if base is not None:
            model.config.base_model_name_or_path = base
    fingerprint = model_fingerprint(model)
    saved = [model.file_beside(name, token) for name in (WEIGHTS_NAME, CONFIG_NAME)]
    card_is_fresh = None not in saved and file_fingerprint(*map(str, saved)) == fingerprint
    evaluation = read_json(Path(directory, EVALUATION_NAME))
    if evaluation.get("fingerprint") == fingerprint:  # that of the new file differs if dtype rounds the weights
        write_json(Path(directory, EVALUATION_NAME), evaluation | {"fingerprint": folder_fingerprint(directory)})
    elif evaluation:
        card_is_fresh = False
        Path(directory, EVALUATION_NAME).unlink()
        logger.warning("The model has changed since it was evaluated: its metrics are left out.")
    if not card_is_fresh or not Path(directory, CARD_NAME).is_file():
        refresh_model_card(directory, repo_id)


@reaching_hub("nothing was pushed")
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
    """Push the folder of a saved model: [`push`] without the options for models."""
    check_whole(directory)
    files = travelling_files(directory)
    api = HfApi(token=token)
    with tempfile.TemporaryDirectory() as stage:
        if EVALUATION_NAME in files and load_evaluation(directory) == Evaluation():
            del files[EVALUATION_NAME]
            if CARD_NAME in files:
                files[CARD_NAME] = _card_without_evaluation(files, Path(stage), repo_id)
        with rollback_on_error(api, repo_id, private, None if create_pr else revision):
            there = api.list_repo_files(repo_id, revision=revision)
            code = file_names()  # other Python files were not sent by a push
            stale = [
                name
                for name in there
                if name not in files and is_model_file(name) and (name in code or not name.endswith(".py"))
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


def travelling_files(directory: str | os.PathLike[str]) -> dict[str, Path]:
    """The files of a saved model that are pushed: name in the repo to file.

    Raises:
        FileNotFoundError: If one is missing; it is named.
        ValueError: If the item tokenizer does not fit the model, or the base is a folder outside ``directory``.
    """
    folder = Path(directory)
    if missing := [name for name in REQUIRED_FILES if not (folder / name).is_file()]:
        raise FileNotFoundError(
            f"{folder} lacks {', '.join(missing)}: save model and item tokenizer there with save_trained(...) first."
        )
    config, tokenizer = read_json(folder / CONFIG_NAME), read_json(folder / TOKENIZER_FILES[0])
    with open_weights(folder / WEIGHTS_NAME):
        pass  # it is whole
    vocabulary = tokenizer["model"].get("vocab") if isinstance(tokenizer.get("model"), dict) else None
    if not isinstance(vocabulary, dict):
        raise ValueError(
            f"{folder / TOKENIZER_FILES[0]} is not an item tokenizer: save it again with save_trained(...)."
        )
    if len(vocabulary) != config.get("vocab_size"):
        raise ValueError(
            f"The item tokenizer in {folder} has {len(vocabulary)} tokens, the model {config.get('vocab_size')}: it "
            "belongs to another catalogue. Pass the right one as tokenizer=."
        )
    code = {file.name for file in folder.glob("*.py")}
    if (
        config.get("model_type") in MODEL_FILES
    ):  # without the code of other releases and models, left from an earlier save
        code -= file_names() - {file.name for file in code_files(config["model_type"], folder)}
    names = [name for name in (*REQUIRED_FILES, *OPTIONAL_FILES) if (folder / name).is_file()]
    files = {name: folder / name for name in [*names, *code]}
    base = config.get("base_model_name_or_path")
    if base == f"./{BASE_FOLDER}":
        found = {file for pattern in BASE_FILES for file in (folder / BASE_FOLDER).glob(pattern)}
        if not found:
            raise FileNotFoundError(f"{folder} lacks its base, which the config expects in the folder {BASE_FOLDER}.")
        if odd := [file for file in found if not file.is_file()]:
            raise ValueError(f"{odd[0]} is not a file: remove it, or keep it elsewhere.")
        for file in found:
            if file.suffix == ".safetensors":
                with open_weights(file):
                    pass
        files |= {f"{BASE_FOLDER}/{file.name}": file for file in found}
    elif isinstance(base, str) and base.endswith(".gguf"):
        raise ValueError(
            f"The base is a file on this machine, {base}, which nobody else has. Save it as safetensors, push that to "
            "a repo of its own, load the adapter with base_model=<its id>, and push that."
        )
    elif isinstance(base, str) and (base.startswith(".") or os.path.isabs(base)):
        raise ValueError(
            f"The base is a folder on this machine, {base}, which nobody else has. Push the base to a repo of its own, "
            "load the adapter with base_model=<its id>, and push that; or include the base with "
            "e4srec_hf.hub.push(model, ..., with_base=True)."
        )
    return dict(sorted(files.items()))


def _card_without_evaluation(files: Mapping[str, Path], stage: Path, repo_id: str) -> Path:
    """The card of a folder whose ``evaluation.json`` belongs to other weights."""
    for name, file in files.items():
        if "/" not in name and name != WEIGHTS_NAME:
            shutil.copyfile(file, stage / name)
    refresh_model_card(stage, repo_id)
    return stage / CARD_NAME


def _for_repo(file: Path, repo_id: str) -> Path | bytes:
    """A file as it is pushed: in the card, the example loads the repo."""
    if file.name != CARD_NAME:
        return file
    before, heading, after = file.read_text(encoding="utf-8").partition("\n## Use\n")
    example, next_heading, rest = after.partition("\n## ")
    example = re.sub(r"""(from_pretrained\()("[^"\n]*"|'[^'\n]*')""", lambda found: f'{found[1]}"{repo_id}"', example)
    return f"{before}{heading}{example}{next_heading}{rest}".encode()


@contextmanager
def rollback_on_error(api: HfApi, repo_id: str, private: bool | None, branch: str | None) -> Iterator[None]:
    """Create repo and branch if they do not exist, and delete them again if the block raises an error."""
    created = created_branch = False
    if not api.repo_exists(repo_id):  # an account that may push need not be allowed to create repos
        api.create_repo(repo_id, private=private)
        created = True
    try:
        if branch is not None and not api.revision_exists(repo_id, branch):
            api.create_branch(repo_id, branch=branch)
            created_branch = True
        yield
    except BaseException:
        if created:
            api.delete_repo(repo_id, missing_ok=True)
        elif created_branch:
            api.delete_branch(repo_id, branch=str(branch))
        raise
