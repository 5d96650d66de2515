"""Which files may lie in a repo: kinds that are known to be harmless, and are what their names say."""

import json
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from .findings import Finding, failed, note, unchecked
from .sources import Source, UnreadableError

WEIGHTS_NAME = "model.safetensors"
TEXT = {".md", ".txt", ".json", ".jsonl", ".yaml", ".yml", ".csv", ".tsv", ".bib", ".cff", ".svg"}
TEXT_NAMES = {"LICENSE", "NOTICE", "COPYING", ".gitattributes", ".gitignore", ".gitkeep"}
IMAGES = {".png": b"\x89PNG", ".jpg": b"\xff\xd8\xff", ".jpeg": b"\xff\xd8\xff", ".gif": b"GIF8", ".webp": b"RIFF"}
#: Kinds that are unpickled by one library or another; ``.npy`` and ``.npz`` may hold pickled objects.
PICKLES = {
    *(".bin", ".pt", ".pth", ".pkl", ".pickle", ".dill", ".ckpt", ".joblib", ".npy", ".npz", ".pt2", ".mar"),
    *(".pdparams", ".sav"),
}
CODE = {
    *(".pyc", ".pyo", ".pyd", ".pyw", ".pyx", ".pyi", ".pyz", ".so", ".dll", ".dylib", ".exe", ".whl", ".egg"),
    *(".sh", ".bat", ".cmd", ".ps1", ".js", ".ipynb", ".jinja", ".jinja2", ".j2", ".c", ".cpp", ".cu", ".rs"),
}
#: What the first bytes of a file give away, whatever its name says.
BEGINNINGS = {
    **{bytes([0x80, protocol]): "a pickle" for protocol in range(2, 6)},
    b"PK\x03\x04": "a zip archive, as torch.save writes around a pickle",
    **dict.fromkeys((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf"), "a compressed file"),
    **dict.fromkeys((b"x\x01", b"x\x9c", b"x\xda"), "a compressed file, as joblib writes around a pickle"),
    b"\x93NUMPY": "a NumPy array, which may hold a pickle",
    b"\x89HDF": "an HDF5 file",
    **dict.fromkeys((b"\x7fELF", b"MZ\x90\0", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"!<arch>"), "a program"),
    b"#!": "a script",
}
#: JSON that changes what is loaded, wherever it lies.
REDIRECTIONS = {
    "adapter_config.json": "With it AutoModel loads the bare base, or a base that this file names, instead of E4SRec.",
    "added_tokens.json": "AutoTokenizer reads it beside tokenizer.json, and it changes the item ids.",
    "special_tokens_map.json": "AutoTokenizer reads it beside tokenizer.json, and it changes the special tokens.",
    "chat_template.json": "It holds a template, which is a program.",
    f"{WEIGHTS_NAME}.index.json": "It names other files to take the weights from.",
}
#: Files that loaders look for by these names; in other letters, some disks find them all the same.
BY_NAME = {"config.json", "tokenizer.json", "tokenizer_config.json", WEIGHTS_NAME, *REDIRECTIONS}
#: Of the redirections, what belongs to a base in a folder of its own.
OF_A_BASE = {"added_tokens.json", "special_tokens_map.json", f"{WEIGHTS_NAME}.index.json"}
UNPICKLED = "Unpickling runs whatever code it holds; no release writes or reads one."


def check_files(source: Source, documents: Mapping[str, Any], base_folder: str | None) -> Iterator[Finding]:
    """Names, kinds and first bytes of all files but Python's.

    Args:
        source: The repo.
        documents: Those of its JSON files that could be parsed, whose contents are known to be text.
        base_folder: The folder in it that holds the base, where one does.
    """
    yield from source.problems
    yield from _alike(source)
    if WEIGHTS_NAME not in source.files:
        yield failed(WEIGHTS_NAME, "is missing", "Without weights nothing can be loaded.")
    for path in source.files:
        if PurePosixPath(path).suffix == ".py":
            continue
        in_base = base_folder is not None and PurePosixPath(path).is_relative_to(base_folder)
        yield from _check_name(PurePosixPath(path), in_base)
        if path in documents:
            continue
        try:
            yield from _check_beginning(path, source.start(path, 4096))
        except UnreadableError as error:
            yield unchecked(path, "could not be read", str(error))


def _check_name(path: PurePosixPath, in_base: bool) -> Iterator[Finding]:
    kind = path.suffix.lower()
    if path.name not in BY_NAME and path.name.lower() in BY_NAME:
        yield failed(str(path), f"is {path.name.lower()} in other letters", "On some disks a loader takes it for that.")
    elif path.name in REDIRECTIONS and not (in_base and path.name in OF_A_BASE):
        yield failed(str(path), "has no place in such a repo", REDIRECTIONS[path.name])
    elif kind == ".safetensors":
        if str(path) != WEIGHTS_NAME and not in_base:
            yield failed(str(path), "are weights beside the model's", f"A release writes {WEIGHTS_NAME} and no other.")
    elif kind == ".model" and in_base:
        pass  # the vocabulary of a base's tokenizer
    elif kind == ".jinja" and in_base:
        yield note(str(path), "is a template of the base's tokenizer", "E4SRec renders none.")
    elif kind in PICKLES:
        yield failed(str(path), f"is a file that is unpickled where it is loaded ({kind})", UNPICKLED)
    elif kind in CODE or kind == ".py":
        yield failed(str(path), f"is code that no release brings ({kind})", "It could be run by mistake or by a trick.")
    elif path.name == "requirements.txt":
        yield note(str(path), "was not looked at", "pip would install what it names; nothing here needs it.")
    elif kind not in TEXT | set(IMAGES) and not _harmless_name(path.name):
        yield failed(str(path), "is of a kind that is not known to be harmless", "No release writes it.")


def _harmless_name(name: str) -> bool:
    return name in TEXT_NAMES or name.startswith("events.out.tfevents.")


def _check_beginning(path: str, start: bytes) -> Iterator[Finding]:
    kind = PurePosixPath(path).suffix.lower()
    what = next((what for beginning, what in BEGINNINGS.items() if start.startswith(beginning)), None)
    if start.startswith(b"version https://git-lfs"):
        yield failed(path, "is a pointer of Git LFS, not the file itself", "Fetch it first: git lfs pull.")
    elif what is not None:
        yield failed(path, f"begins like {what}", UNPICKLED if "pickle" in what else "No release writes such a file.")
    elif kind in TEXT and b"\0" in start:
        yield failed(path, "is no text, as its name says", "What it is instead is not known.")
    elif kind in IMAGES and not start.startswith(IMAGES[kind]):
        yield failed(path, "is no image, as its name says", "What it is instead is not known.")


def _alike(source: Source) -> Iterator[Finding]:
    """Names that are one file where case or accents do not count."""
    names = defaultdict(list)
    for path in source.files:
        names[unicodedata.normalize("NFC", path).casefold()].append(path)
    for first, *others in names.values():
        if others:
            yield failed(first, f"is {', '.join(others)} in other letters", "On some disks they are one file.")


def read_documents(source: Source) -> tuple[dict[str, Any], list[Finding]]:
    """The JSON files of a repo, parsed, by their paths.

    Returns:
        The documents, and what was wrong with the files: no JSON, a key twice, or an ``auto_map``, which names code to
        run, anywhere but in ``config.json``.
    """
    documents: dict[str, Any] = {}
    findings = []
    for path in source.files:
        if not path.lower().endswith(".json"):
            continue
        try:
            document = json.loads(source.read(path).decode("utf-8"), object_pairs_hook=_each_key_once)
            if has_auto_map(document) and path != "config.json":
                findings.append(failed(path, "has an auto_map", "It names Python code to run while loading."))
            documents[path] = document
        except UnreadableError as error:
            findings.append(unchecked(path, "could not be read", str(error)))
        except (ValueError, RecursionError) as error:
            findings.append(failed(path, f"is no sound JSON: {error}", "Two readers could make two things of it."))
    return documents, findings


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a key comes twice")
    return content


def has_auto_map(document: Any) -> bool:
    """Whether parsed JSON names code to run, at any depth."""
    if isinstance(document, dict):
        return isinstance(document.get("auto_map"), dict | list) or any(map(has_auto_map, document.values()))
    return isinstance(document, list) and any(map(has_auto_map, document))
