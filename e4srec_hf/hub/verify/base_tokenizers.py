"""Check the tokenizer of a base inside the repo, which makes the tokens of a prompt."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tokenizers
from transformers.models.auto.tokenization_auto import tokenizer_class_from_name
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER

from ...modeling.saving import TOKENIZER_FILES
from .findings import Finding, failed, unchecked
from .limits import LARGEST_NUMBER, LONGEST_TOKENIZING
from .sources import Source, UnreadableError

#: Run by a Python of its own: a file may make the library, which is no Python code, take long or end the process.
TOKENIZE = """
import json, sys
library, file, texts = json.load(sys.stdin)
sys.path.append(library)
from tokenizers import Tokenizer
try:
    tokenizer = Tokenizer.from_file(file)
    print(json.dumps([tokenizer.encode(text, add_special_tokens=False).ids for text in texts]))
except Exception as error:
    sys.exit(str(error))
"""
#: Classes that use the file as it is; others change parts of it.
AS_IT_IS = ("TokenizersBackend", "PreTrainedTokenizerFast")


def check_base_tokenizer(folder: str, documents: Mapping[str, Any]) -> Iterator[Finding]:
    """Check the settings of the tokenizer.

    Args:
        folder: The folder of the base.
        documents: The parsed JSON files of the repo.
    """
    where, config = f"{folder}/{TOKENIZER_FILES[1]}", documents["config.json"]
    if where not in documents:
        return
    settings = documents[where]
    if not isinstance(settings, dict):
        yield failed(where, "is not a dictionary", "No tokenizer can be built from it.")
        return
    name = settings.get("tokenizer_class")
    if name is not None and (not isinstance(name, str) or tokenizer_class_from_name(name) is None):
        yield failed(where, f"tokenizer_class is {name!r}, which is not in transformers", "It cannot be loaded.")
    longest = settings.get("model_max_length", VERY_LARGE_INTEGER)
    prompt = [config.get(name) for name in ("instruction_ids", "response_ids")]
    least = max([2, *(len(ids) for ids in prompt if isinstance(ids, list))])
    if longest != VERY_LARGE_INTEGER and not (type(longest) is int and least <= longest <= LARGEST_NUMBER):
        yield failed(where, f"model_max_length is {longest!r}", f"The prompt needs {least} tokens.")


def check_prompt_tokens(source: Source, folder: str, documents: Mapping[str, Any]) -> Iterator[Finding]:
    """Check that the tokenizer can be built, and that it makes the recorded tokens of the prompt.

    Args:
        source: The repo.
        folder: The folder of the base.
        documents: The parsed JSON files of the repo.
    """
    where, config = f"{folder}/{TOKENIZER_FILES[0]}", documents["config.json"]
    if where not in source.files:
        return
    texts = [config[name] for name in ("instruction", "response")]
    recorded = [config[f"{name}_ids"] for name in ("instruction", "response")]
    try:
        done = subprocess.run(  # noqa: S603 - the program is constant
            [sys.executable, "-I", "-c", TOKENIZE],
            input=json.dumps([str(Path(tokenizers.__file__).parents[1]), str(source.local(where)), texts]),
            capture_output=True,
            text=True,
            timeout=LONGEST_TOKENIZING,
        )
    except subprocess.TimeoutExpired:
        yield failed(where, f"takes more than {LONGEST_TOKENIZING} seconds for the prompt", "No tokenizer does.")
        return
    except (OSError, UnreadableError) as error:
        yield unchecked(where, "could not be tried", str(error))
        return
    if done.returncode:
        yield failed(where, f"is not a tokenizer: {done.stderr.strip()[-200:]}", "The prompt cannot be tokenized.")
        return
    settings = documents.get(f"{folder}/{TOKENIZER_FILES[1]}") or {}
    if settings.get("tokenizer_class") not in AS_IT_IS:
        return
    for name, ids, found in zip(("instruction", "response"), recorded, json.loads(done.stdout), strict=True):
        if ids != found:
            what = f"{name}_ids are not the tokens of {name}, {config[name]!r}"
            yield failed("config.json", what, "The model reads the tokens, whatever the text says.")
