"""The fields of a base's config: numbers in proportion, and texts that lead to no other file, repo or code."""

import math
import re
from collections.abc import Iterator
from typing import Any

from .findings import Finding, failed
from .limits import LARGEST_FRACTION, LARGEST_NUMBER, MOST_LABELS, MOST_PARTS

ABOVE_ZERO = math.ulp(0.0)
#: Names of numbers, and the least and the most that they may be. The first that matches counts.
RANGES = {
    re.compile(pattern): bounds
    for pattern, bounds in {
        # each layer, expert or label is built
        r"(layers?|experts|blocks|depths?|groups)$": (-LARGEST_NUMBER, MOST_PARTS),
        r"num_labels$": (0, MOST_LABELS),
        r"(_eps|epsilon)$": (ABOVE_ZERO, 0.1),
        r"(rope_theta|base_freq)$": (ABOVE_ZERO, 1e15),
        r"^(\w+_freq_|partial_rotary_|long_|short_|attention_)?factor$": (ABOVE_ZERO, 1e4),
        r"(dropout|_dropout_\w+|pdrop|layerdrop|drop_rate|drop_path_rate)$": (0, 0.999),
        r"(initializer_range|init_std)$": (0, 1e3),
        r"token_ids?$": (0, LARGEST_NUMBER),
        r"(max_position_embeddings|n_positions|hidden_size|head_dim)$": (1, LARGEST_NUMBER),
        r"(scaling|multiplier|scalar)$": (ABOVE_ZERO, 1e6),
    }.items()
}
LABELS = ("id2label", "label2id")
#: Fields with one value with which a base can be used. Without them it has that value.
FIXED = {
    "return_dict": True,
    "use_return_dict": True,
    **dict.fromkeys(("torchscript", "output_hidden_states", "output_attentions", "use_kernels"), False),
}
#: Ways to compute that are in `transformers`. Others need a package, or a kernel of the Hub, which is compiled code.
IMPLEMENTATIONS = (None, "eager", "sdpa")
#: Names of fields that name files or code. `transformers` writes where a config was read, and does not read that.
LEADS_ELSEWHERE = re.compile(
    r"((?<!name_or)_(files?|weights|path|dir|folder)|subfolder|^custom_(generate|pipelines?))$"
)
WHERE_IT_WAS = re.compile(r"name_or_path$")
PATH = re.compile(r"^[/~]|\.\.?/|\\|://|\.(safetensors|bin|pth?|ckpt|json|py|pkl|gguf)$")


def check_numbers(where: str, content: dict[str, Any]) -> Iterator[Finding]:
    """Check that no number is out of all proportion, above all those of layers and labels, which are built."""
    wrong: dict[tuple[float, float], list[tuple[str, float]]] = {}
    for name, value in _values(content):
        if type(value) in (int, float):
            least, most = _range(name, value)
            if not least <= value <= most:
                wrong.setdefault((least, most), []).append((name, value))
    for (least, most), found in wrong.items():
        yield failed(
            where, f"has {sorted(found)[:5]}", f"No model has less than {least:g} or more than {most:g} there."
        )


def check_texts(where: str, content: dict[str, Any]) -> Iterator[Finding]:
    """Check that nothing in a config leads to another file or other code, and that outputs are the usual ones."""
    for name, value in _values(content):
        if name in FIXED and value is not FIXED[name]:
            yield failed(where, f"{name} is {value!r}", "The base would return something else than hidden states.")
        elif name.endswith("_implementation") and value not in IMPLEMENTATIONS:
            yield failed(where, f"{name} is {value!r}", "It may need a package, or compiled code from the Hub.")
        elif isinstance(value, str) and (
            LEADS_ELSEWHERE.search(name) or (PATH.search(value) and not WHERE_IT_WAS.search(name))
        ):
            yield failed(where, f"refers to other files ({name} is {value!r})", "They were not checked.")


def check_labels(where: str, document: Any) -> Iterator[Finding]:
    """Check that no labels of a classifier are so many that they take memory."""
    for key, value in document.items() if isinstance(document, dict) else enumerate(document):
        if key in LABELS and isinstance(value, dict | list) and len(value) > MOST_LABELS:
            yield failed(where, f"has {len(value)} values in {key}", f"No base has more than {MOST_LABELS} labels.")
        elif isinstance(value, dict | list):
            yield from check_labels(where, value)


def _range(name: str, value: float) -> tuple[float, float]:
    for pattern, bounds in RANGES.items():
        if pattern.search(name):
            return bounds
    most = LARGEST_NUMBER if type(value) is int else LARGEST_FRACTION
    return -most, most


def _values(document: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a config but its labels, at any depth, each with the name that it or its list has."""
    pairs = document.items() if isinstance(document, dict) else ((name, value) for value in document)
    for key, value in pairs:
        if isinstance(value, dict | list):
            if key not in LABELS:
                yield from _values(value, key)
        else:
            yield key, value
