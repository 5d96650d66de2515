"""A folder in which a model was trained has checkpoints, and a SASRec, beside the model."""

import re
from typing import Any

from ...files import CONFIG_NAME
from .bases import model_type_of
from .findings import note
from .json_files import parse
from .limits import LARGEST_JSON
from .sources import Folder, Source, UnreadableError


def without_training(source: Source) -> Source:
    """The source without its folders of checkpoints and of a SASRec, which loading the model does not read.

    Everything beside them stays, also what a push would not send: a loader may look for it. So does all of a Hub repo.
    """
    if not isinstance(source, Folder):
        return source
    folders = {path.partition("/")[0] for path in source.files if _is_of_a_training(source, path)}
    if not folders:
        return source
    n_files = len(source.files)
    source.files = {path: size for path, size in source.files.items() if path.partition("/")[0] not in folders}
    source.folders = {path for path in source.folders if path.partition("/")[0] not in folders}
    source.problems = [each for each in source.problems if each.where.partition("/")[0] not in folders]
    source.problems.append(
        note(
            source.name,
            f"this is a training folder: {n_files - len(source.files)} files in {', '.join(sorted(folders))} "
            "were not checked",
            "A push leaves them here. Do not resume from checkpoints of somebody else: they are pickles.",
        )
    )
    return source


def _is_of_a_training(source: Source, path: str) -> bool:
    """Whether a file is the state of a checkpoint, or the config of a SASRec that was trained for its vectors."""
    step = re.fullmatch(r"(?:sasrec/)?checkpoint-(\d+)/trainer_state\.json", path)
    if step is not None:
        state = _content(source, path)
        return isinstance(state, dict) and state.get("global_step") == int(step[1])
    return path == f"sasrec/{CONFIG_NAME}" and model_type_of(_content(source, path)) == "sasrec"


def _content(source: Source, path: str) -> Any:
    try:
        return parse(source.start(path, LARGEST_JSON))
    except (UnreadableError, ValueError, RecursionError):
        return None
