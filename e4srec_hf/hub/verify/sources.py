"""Read a folder or a Hub repo as bytes: nothing in it is imported, executed or unpickled."""

import os
import stat
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Protocol

from huggingface_hub import HfApi, hf_hub_download, hf_hub_url
from huggingface_hub.errors import HFValidationError, HTTPError  # HTTPError is that of the HTTP library in use
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, http_stream_backoff

from .findings import Finding, failed, note, unchecked

#: Maximum size of a file that is read completely, in bytes.
LARGEST_DOCUMENT = 256 * 1024**2
#: Folders of git and `hf download`; no loader reads them.
IGNORED = (".git", ".cache/huggingface")


class UnreadableError(Exception):
    """A repo or a file in it could not be read."""


class Source(Protocol):
    """A repo as the checks see it: ``files`` maps path to size, ``problems`` are findings from listing the files."""

    name: str
    commit: str | None
    files: dict[str, int]
    problems: list[Finding]

    def read(self, path: str) -> bytes:
        """Read a whole file; raises `UnreadableError`."""
        ...

    def start(self, path: str, length: int) -> bytes:
        """Read up to ``length`` bytes from the beginning of a file; raises `UnreadableError`."""
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
            raise UnreadableError(f"a folder has no revision {revision}: leave out revision, or give a Hub id")
        return Folder(name)
    if os.path.exists(name) or os.path.isabs(name) or name.startswith((".", "~")):
        raise UnreadableError("no such folder")
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
                if path in IGNORED:
                    subfolders.remove(subfolder)
                    self.problems.append(note(path, "was ignored", "git or `hf download` made it; no loader reads it."))
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
        self.problems.extend(check_paths([path]))
        try:
            target, status = full.resolve(), full.stat()
        except (OSError, RuntimeError) as error:  # RuntimeError: a cycle of links
            self.problems.append(failed(path, f"is a broken link ({error})", "No release writes links."))
            return
        if not target.is_relative_to(self.root):
            self.problems.append(
                failed(
                    path,
                    f"is a link to {target}, outside the folder",
                    "The target may change between this check and loading. In the cache of the Hub all files are "
                    "such links: verify the Hub id instead.",
                )
            )
            return
        if stat.S_ISREG(status.st_mode):
            self.files[path] = status.st_size
        elif not stat.S_ISDIR(status.st_mode):
            self.problems.append(failed(path, "is not a regular file", "A pipe or a device has no content to check."))
        else:
            self.problems.append(note(path, "is a link to another folder in the repo", "It was not followed."))

    def read(self, path: str) -> bytes:
        """Read a whole file."""
        return self.start(path, _checked_size(self, path))

    def start(self, path: str, length: int) -> bytes:
        """Read the first bytes of a file."""
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
        self.problems = check_paths(files)
        unsafe = {finding.where for finding in self.problems}
        self.files = {path: size for path, size in files.items() if path not in unsafe}

    def read(self, path: str) -> bytes:
        """Read a whole file through the cache of the Hub, which loading uses as well."""
        _checked_size(self, path)
        try:
            file = hf_hub_download(self.name, path, revision=self.commit, token=self.token, cache_dir=self.cache_dir)  # type: ignore[arg-type]
            return Path(file).read_bytes()
        except (OSError, HTTPError) as error:
            raise UnreadableError(str(error)) from error

    def start(self, path: str, length: int) -> bytes:
        """Read the first bytes by a range request."""
        if not self.files[path]:
            return b""  # servers reject ranges of empty files
        headers = {**build_hf_headers(token=self.token), "range": f"bytes=0-{length - 1}"}
        received = b""
        try:
            url = hf_hub_url(self.name, path, revision=self.commit)
            with http_stream_backoff("GET", url, headers=headers) as response:
                hf_raise_for_status(response)
                for part in response.iter_bytes():
                    received += part
                    if len(received) >= length:  # a server may ignore the range
                        break
        except (OSError, HTTPError) as error:
            raise UnreadableError(str(error)) from error
        return received[:length]


def _checked_size(source: Source, path: str) -> int:
    size = source.files[path]
    if size > LARGEST_DOCUMENT:
        raise UnreadableError(f"it has {size} bytes, more than the maximum of {LARGEST_DOCUMENT}")
    return size


def check_paths(paths: Iterable[str]) -> list[Finding]:
    """Find paths that could lead outside the download folder or look like another path."""
    return [
        failed(path, "is a path that leads outside the repo or looks like another", "No release writes such names.")
        for path in paths
        if path.startswith(("/", "~"))
        or any(char in path for char in "\\:")
        or not path.isprintable()
        or ".." in PurePosixPath(path).parts
    ]
