"""Compare the Python files of a repo with those of every release, by SHA-256.

``make record`` records the current files: run it before a release and after each change in ``modeling/``.

The files are compared byte for byte: `save_pretrained` copies them unchanged, and ``.gitattributes`` keeps git from
changing their line endings.
"""

import json
from hashlib import sha256
from importlib import resources
from pathlib import Path, PurePosixPath

from ...files import MODEL_FILES, code_files
from ...version import __version__
from .findings import Finding, failed, unchecked
from .limits import LARGEST_TEXT_READ
from .sources import Source, UnreadableError

#: Model type to file name to SHA-256.
Code = dict[str, dict[str, str]]
RUN = "It runs on the machine of everyone who loads the repo with trust_remote_code=True."


def present_code() -> Code:
    """The Python files that are saved with each model, in this installation."""
    return {
        model: {file.name: sha256(file.read_bytes()).hexdigest() for file in sorted(code_files(model))}
        for model in MODEL_FILES
    }


def released_code() -> dict[str, Code]:
    """Release to model type to file name to SHA-256, the oldest release first."""
    return json.loads(resources.files(__package__).joinpath("released_code.json").read_text(encoding="utf-8"))


def file_names() -> set[str]:
    """Names of all Python files that a release, or this installation, saves with a model."""
    return {name for code in (*released_code().values(), present_code()) for files in code.values() for name in files}


def record(file: Path) -> None:
    """Record the current code in ``file`` as that of the current version, replacing an earlier record of it."""
    releases = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    releases[__version__] = present_code()
    file.write_text(json.dumps(releases, indent=1) + "\n", encoding="utf-8", newline="\n")


def check_code(source: Source, model_type: str | None) -> tuple[str | None, list[Finding]]:
    """Compare the Python files of a repo with those of the releases, byte for byte.

    Args:
        source: The repo.
        model_type: The model type in its config; ``None`` if it has none.

    Returns:
        The release whose files these are, or ``None``, and the findings.
    """
    contents: dict[str, bytes] = {}
    findings: list[Finding] = []
    unread = set()
    names = file_names()
    for path in source.files:
        if PurePosixPath(path).suffix == ".py":
            if path not in names or source.files[path] > LARGEST_TEXT_READ:
                contents[path] = b""  # whatever it holds
                continue
            try:
                contents[path] = source.read(path)
            except UnreadableError as error:
                unread.add(path)
                findings.append(unchecked(path, "could not be read", str(error)))
    hashes = {path: sha256(content).hexdigest() for path, content in contents.items()}
    candidates = [
        (release, files)
        for release, code in released_code().items()
        for model, files in code.items()
        if model == model_type or model_type not in code
    ]
    # the release with the most matching files, the newest if there are several
    closest, files = max(reversed(candidates), key=lambda candidate: len(candidate[1].items() & hashes.items()))
    for path in sorted(files.keys() - hashes.keys() - unread):
        findings.append(failed(path, f"is missing; release {closest} has it", "Without it the model cannot be built."))
    for path, content in contents.items():
        if hashes[path] != files.get(path):
            others = [release for release, its_files in candidates if its_files.get(path) == hashes[path]]
            findings.append(_unknown_file(path, content, files.get(path), closest, others))
    return (None if findings else closest), findings


def _unknown_file(path: str, content: bytes, expected: str | None, closest: str, others: list[str]) -> Finding:
    """The finding for a file that is not in the closest release."""
    if expected is None:
        return failed(path, f"is a Python file that release {closest} does not contain", RUN)
    if others:
        what = f"is from release {others[-1]}, but most files are from {closest}"
        return failed(path, what, "No release was tested with this mixture.")
    if sha256(content.replace(b"\r\n", b"\n")).hexdigest() == expected:
        what = f"differs from release {closest} only in its line endings"
        return failed(path, what, "git may have changed them; save the model again with an installed package.")
    what = f"differs from release {closest}, and is not from any other known release"
    return failed(path, what, f"{RUN} If a newer release wrote it, upgrade e4srec-hf.")
