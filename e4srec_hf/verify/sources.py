"""A folder or a Hub repo, read as bytes: nothing in it is imported, executed or unpickled."""

import os
import stat
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Protocol

from huggingface_hub import HfApi, hf_hub_download, hf_hub_url
from huggingface_hub.errors import HFValidationError, HTTPError  # the latter is that of the HTTP library in use
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, http_stream_backoff

from .findings import Finding, failed, note, unchecked

#: Files above this size are not read whole, in bytes.
LARGEST_DOCUMENT = 256 * 1024**2
#: What git and `hf download` keep in a folder; no loader reads it.
PASSED_OVER = (".git", ".cache/huggingface")


class UnreadableError(Exception):
    """A repo, or a file in it, that could not be read."""


class Source(Protocol):
    """What the checks need of a repo: ``files`` is path to size, ``problems`` what was seen while listing them."""

    name: str
    commit: str | None
    files: dict[str, int]
    problems: list[Finding]

    def read(self, path: str) -> bytes:
        """The whole of a file; raises `UnreadableError`."""
        ...

    def start(self, path: str, length: int) -> bytes:
        """Its first bytes, fewer where it is shorter; raises `UnreadableError`."""
        ...


def open_source(
    source: str | os.PathLike[str],
    revision: str | None,
    token: str | bool | None,
    cache_dir: str | os.PathLike[str] | None,
) -> Source:
    """List a folder, or a commit of a Hub repo.

    Raises:
        UnreadableError: If there is no such folder or repo, or it cannot be reached.
    """
    name = os.fspath(source)
    if os.path.isdir(name):
        if revision is not None:
            raise UnreadableError(f"a folder has no revision {revision}: leave it out, or give a Hub id")
        return Folder(name)
    if os.path.exists(name) or os.path.isabs(name) or name.startswith((".", "~")):
        raise UnreadableError("there is no such folder")
    return HubRepo(name, revision, token, cache_dir)


class Folder:
    """A folder on this machine."""

    commit: str | None = None

    def __init__(self, name: str) -> None:
        self.name, self.root = name, Path(name).resolve()
        self.files: dict[str, int] = {}
        self.problems: list[Finding] = []
        for directory, subfolders, names in os.walk(self.root, onerror=self._unlisted):
            for subfolder in list(subfolders):
                path = self._relative(directory, subfolder)
                if path in PASSED_OVER:
                    subfolders.remove(subfolder)
                    self.problems.append(note(path, "was passed over", "git or `hf download` keep it; no loader does."))
                elif os.path.islink(os.path.join(directory, subfolder)):
                    self._add(path)
            for file in names:
                self._add(self._relative(directory, file))

    def _relative(self, directory: str, name: str) -> str:
        return Path(directory, name).relative_to(self.root).as_posix()

    def _unlisted(self, error: OSError) -> None:
        self.problems.append(unchecked(str(error.filename), "could not be listed", str(error)))

    def _add(self, path: str) -> None:
        full = self.root / path
        self.problems.extend(strange_names([path]))
        try:
            target, status = full.resolve(), full.stat()
        except (OSError, RuntimeError) as error:  # the latter is a circle of links
            self.problems.append(failed(path, f"is a link that leads nowhere ({error})", "No release writes links."))
            return
        if not target.is_relative_to(self.root):
            self.problems.append(
                failed(
                    path,
                    f"is a link to {target}, outside the folder",
                    "What is checked here may be another file when it is loaded. In a cache of the Hub all files "
                    "are such links: verify the Hub id instead.",
                )
            )
            return
        if stat.S_ISREG(status.st_mode):
            self.files[path] = status.st_size
        elif not stat.S_ISDIR(status.st_mode):
            self.problems.append(failed(path, "is no regular file", "A pipe or a device has no contents to check."))
        else:
            self.problems.append(note(path, "is a link to another folder here", "It was not followed."))

    def read(self, path: str) -> bytes:
        """The whole of a file."""
        return self.start(path, _checked_size(self, path))

    def start(self, path: str, length: int) -> bytes:
        """Its first bytes."""
        try:
            with open(self.root / path, "rb") as file:
                return file.read(length)
        except OSError as error:
            raise UnreadableError(str(error)) from error


class HubRepo:
    """A commit of a model repo on the Hub."""

    def __init__(
        self, name: str, revision: str | None, token: str | bool | None, cache_dir: str | os.PathLike[str] | None
    ) -> None:
        self.name, self.token, self.cache_dir = name, token, cache_dir
        api = HfApi(token=token)
        try:
            self.commit: str | None = str(api.model_info(name, revision=revision).sha)
            entries = list(api.list_repo_tree(name, recursive=True, revision=self.commit))
        except (OSError, HTTPError, HFValidationError) as error:
            raise UnreadableError(str(error)) from error
        files = {entry.path: entry.size for entry in entries if isinstance(entry, RepoFile)}
        self.problems = strange_names(files)
        strange = {finding.where for finding in self.problems}
        self.files = {path: size for path, size in files.items() if path not in strange}

    def read(self, path: str) -> bytes:
        """The whole of a file, by way of the cache of the Hub, where loading will find it."""
        _checked_size(self, path)
        try:
            file = hf_hub_download(self.name, path, revision=self.commit, token=self.token, cache_dir=self.cache_dir)  # type: ignore[arg-type]
            return Path(file).read_bytes()
        except (OSError, HTTPError) as error:
            raise UnreadableError(str(error)) from error

    def start(self, path: str, length: int) -> bytes:
        """Its first bytes, by a range request."""
        if not self.files[path]:
            return b""  # of which a server has no range
        headers = {**build_hf_headers(token=self.token), "range": f"bytes=0-{length - 1}"}
        received = b""
        try:
            url = hf_hub_url(self.name, path, revision=self.commit)
            with http_stream_backoff("GET", url, headers=headers) as response:
                hf_raise_for_status(response)
                for part in response.iter_bytes():
                    received += part
                    if len(received) >= length:  # a server may not know ranges
                        break
        except (OSError, HTTPError) as error:
            raise UnreadableError(str(error)) from error
        return received[:length]


def _checked_size(source: Source, path: str) -> int:
    size = source.files[path]
    if size > LARGEST_DOCUMENT:
        raise UnreadableError(f"it has {size} bytes, and more than {LARGEST_DOCUMENT} are not read")
    return size


def strange_names(paths: Iterable[str]) -> list[Finding]:
    """The paths that could lead out of the folder that a repo is downloaded to, or look like another."""
    return [
        failed(path, "is a name that leads elsewhere, or hides what it is", "No release writes such names.")
        for path in paths
        if path.startswith(("/", "~"))
        or any(char in path for char in "\\:")
        or not path.isprintable()
        or ".." in PurePosixPath(path).parts
    ]
