"""A folder in which a model was trained has checkpoints, and a SASRec, beside what a push sends."""

import re
from typing import Any

from ...files import BASE_FOLDER, CONFIG_NAME, is_model_file
from .bases import model_type_of
from .findings import note
from .json_files import parse
from .limits import LARGEST_JSON
from .sources import Folder, Source, UnreadableError


def as_pushed(source: Source) -> Source:
    """What a push would send, if the source is a training folder; otherwise the source."""
    if not isinstance(source, Folder) or not any(_is_of_a_training(source, path) for path in source.files):
        return source
    sent = {path: size for path, size in source.files.items() if is_model_file(path)}
    left_out = len(source.files) - len(sent)
    source.files, source.folders = sent, source.folders & {BASE_FOLDER}
    source.problems = [each for each in source.problems if is_model_file(each.where) or each.where in sent]
    source.problems.append(
        note(
            source.name,
            f"this is a training folder: what a push would send was checked, {left_out} other files were not",
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
