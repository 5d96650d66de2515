"""Check the files of a repo: only harmless kinds, whose content matches their names."""

import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterator
from pathlib import PurePosixPath

from ...cards.metadata import read_metadata
from ...files import CARD_NAME, REQUIRED_FILES
from ...modeling.saving import WEIGHTS_NAME
from .findings import Finding, failed, note, unchecked
from .limits import LARGEST_OTHER, LARGEST_TEXT_READ
from .sources import Source, UnreadableError

TEXT = {".md", ".txt", ".json", ".jsonl", ".yaml", ".yml", ".csv", ".tsv", ".bib", ".cff"}
TEXT_NAMES = {"LICENSE", "NOTICE", "COPYING", ".gitattributes", ".gitignore", ".gitkeep"}
IMAGES = {".png": b"\x89PNG", ".jpg": b"\xff\xd8\xff", ".jpeg": b"\xff\xd8\xff", ".gif": b"GIF8", ".webp": b"RIFF"}
#: Kinds that some library unpickles; ``.npy`` and ``.npz`` may hold pickled objects.
PICKLES = {
    *(".bin", ".pt", ".pth", ".pkl", ".pickle", ".dill", ".ckpt", ".joblib", ".npy", ".npz", ".pt2", ".mar"),
    *(".pdparams", ".sav"),
}
CODE = {
    *(".pyc", ".pyo", ".pyd", ".pyw", ".pyx", ".pyi", ".pyz", ".so", ".dll", ".dylib", ".exe", ".whl", ".egg"),
    *(".svg", ".html", ".htm", ".xhtml", ".xml", ".mjs", ".css", ".pdf"),
    *(".sh", ".bat", ".cmd", ".ps1", ".js", ".ipynb", ".jinja", ".jinja2", ".j2", ".c", ".cpp", ".cu", ".rs"),
}
#: First bytes of unwanted kinds of files, whatever the file name says.
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
#: JSON files that change what is loaded, in any folder.
REDIRECTIONS = {
    "adapter_config.json": "With it AutoModel loads only a base, which this file may name, instead of E4SRec.",
    "added_tokens.json": "AutoTokenizer reads it next to tokenizer.json, and it changes the item ids.",
    "special_tokens_map.json": "AutoTokenizer reads it next to tokenizer.json, and it changes the special tokens.",
    "chat_template.json": "It holds a template, which is a program.",
    "generation_config.json": "It may name code to generate with (custom_generate); no model of items generates.",
    "modules.json": "sentence-transformers imports the classes that it names.",
    "model_index.json": "diffusers imports the classes that it names.",
    "requirements.txt": "Whoever serves the repo may install the packages that it names; none is needed.",
    f"{WEIGHTS_NAME}.index.json": "It names other files to load weights from.",
}
#: Files that loaders look for by name; case-insensitive file systems also find other spellings.
BY_NAME = {*REQUIRED_FILES, *REDIRECTIONS}
#: Those of the redirections that a base in its own folder may have.
ALLOWED_IN_BASE = {
    *("added_tokens.json", "special_tokens_map.json", "generation_config.json"),
    f"{WEIGHTS_NAME}.index.json",
}
UNPICKLED = "Unpickling can run any code; no release writes or reads such files."


def check_files(source: Source, documents: Collection[str], base_folder: str | None) -> Iterator[Finding]:
    """Check names, kinds, sizes and first bytes of all files except Python files.

    Args:
        source: The repo.
        documents: The paths of the JSON files that could be parsed.
        base_folder: The folder inside the repo that holds the base, if any.
    """
    yield from source.problems
    yield from _check_similar_names(source)
    for folder in sorted(source.folders):
        yield from _check_folder(PurePosixPath(folder))
    if WEIGHTS_NAME not in source.files:
        yield failed(WEIGHTS_NAME, "is missing", "Without weights the model cannot be loaded.")
    for path, size in source.files.items():
        if PurePosixPath(path).suffix == ".py":
            continue
        in_base = base_folder is not None and PurePosixPath(path).is_relative_to(base_folder)
        yield from _check_name(PurePosixPath(path), in_base)
        if path in documents:
            continue
        try:
            yield from _check_beginning(path, source.start(path, 4096))
            if path == CARD_NAME:
                yield from _check_card(source)
        except UnreadableError as error:
            yield unchecked(path, "could not be read", str(error))
        if PurePosixPath(path).suffix not in (".safetensors", ".json") and size > LARGEST_OTHER:
            yield failed(path, f"has {size} bytes, more than {LARGEST_OTHER}", "No release writes such a file.")


def _check_card(source: Source) -> Iterator[Finding]:
    """Check the metadata of the model card, which the Hub and new cards read."""
    if (size := source.files[CARD_NAME]) > LARGEST_TEXT_READ:
        yield failed(CARD_NAME, f"has {size} bytes, more than {LARGEST_TEXT_READ}", "No card is that long.")
        return
    try:
        read_metadata(source.read(CARD_NAME).decode("utf-8"))
    except ValueError as error:
        yield failed(CARD_NAME, f"has metadata that cannot be read: {error}", "The Hub reads the head of a card.")


def _check_folder(path: PurePosixPath) -> Iterator[Finding]:
    kind = path.suffix.lower()
    if kind in {".py", ".json", ".safetensors"} | CODE | PICKLES or path.name.lower() in BY_NAME:
        yield failed(str(path), "is a folder with the name of a file", "A loader may look for a file of this name.")


def _check_name(path: PurePosixPath, in_base: bool) -> Iterator[Finding]:
    kind = path.suffix.lower()
    if path.name not in BY_NAME and path.name.lower() in BY_NAME:
        yield failed(str(path), f"is {path.name.lower()} in other spelling", "Some file systems take it for that file.")
    elif path.name in REDIRECTIONS and not (in_base and path.name in ALLOWED_IN_BASE):
        yield failed(str(path), "must not be in such a repo", REDIRECTIONS[path.name])
    elif kind == ".safetensors":
        if str(path) != WEIGHTS_NAME and not in_base:
            yield failed(str(path), "has additional weights", f"A release writes only {WEIGHTS_NAME}.")
    elif kind == ".model" and in_base:
        pass  # the vocabulary of a base's tokenizer
    elif kind == ".jinja" and in_base:
        yield note(str(path), "is a template of the base's tokenizer", "E4SRec does not use templates.")
    elif kind in PICKLES:
        yield failed(str(path), f"is a file that is unpickled when loaded ({kind})", UNPICKLED)
    elif kind in CODE or kind == ".py":
        yield failed(
            str(path), f"is code that no release contains ({kind})", "It could be run by mistake or by a trick."
        )
    elif kind not in TEXT | set(IMAGES) and not _harmless_name(path.name):
        yield failed(str(path), "is of a kind that is not known to be harmless", "No release writes it.")


def _harmless_name(name: str) -> bool:
    return name in TEXT_NAMES or name.startswith("events.out.tfevents.")


def _check_beginning(path: str, start: bytes) -> Iterator[Finding]:
    kind = PurePosixPath(path).suffix.lower()
    what = next((what for beginning, what in BEGINNINGS.items() if start.startswith(beginning)), None)
    if start.startswith(b"version https://git-lfs"):
        yield failed(path, "is a Git LFS pointer, not the file itself", "Fetch the file first: git lfs pull.")
    elif what is not None:
        yield failed(path, f"begins like {what}", UNPICKLED if "pickle" in what else "No release writes such a file.")
    elif kind in TEXT and b"\0" in start:
        yield failed(path, "is not text, as its name says", "The actual kind of the file is unknown.")
    elif kind in IMAGES and not start.startswith(IMAGES[kind]):
        yield failed(path, "is not an image, as its name says", "The actual kind of the file is unknown.")


def _check_similar_names(source: Source) -> Iterator[Finding]:
    """Find names that are the same file on file systems that ignore case or Unicode normalisation."""
    names = defaultdict(list)
    for path in source.files:
        names[unicodedata.normalize("NFC", path).casefold()].append(path)
    for first, *others in names.values():
        if others:
            yield failed(
                first, f"is {', '.join(others)} in other spelling", "Some file systems take them for one file."
            )
