"""Read a folder or a Hub repo as bytes: nothing in it is imported, executed or unpickled."""

import os
import stat
from collections.abc import Iterable
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Protocol

from huggingface_hub import HfApi, hf_hub_download, hf_hub_url
from huggingface_hub.errors import HFValidationError, HTTPError  # HTTPError is that of the HTTP library in use
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, http_stream_backoff

from ...errors import unreachable_hub
from .findings import Finding, failed, note, unchecked
from .limits import MOST_FILES

#: Folders of git and `hf download`; no loader reads them.
IGNORED = (".git", ".cache/huggingface")


class UnreadableError(Exception):
    """A repo or a file in it could not be read."""


class Source(Protocol):
    """A repo as the checks see it.

    ``files`` maps path to size, ``folders`` are the paths of its folders, ``problems`` the findings from listing it.
    """

    name: str
    commit: str | None
    files: dict[str, int]
    folders: set[str]
    problems: list[Finding]

    def local(self, path: str) -> Path:
        """A file on this machine, fetched if needed; raises `UnreadableError`."""
        ...

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
    if os.path.exists(name):
        raise UnreadableError("it is a file: give the folder of a model")
    if os.path.isabs(name) or name.startswith((".", "~")):
        raise UnreadableError("no such folder")
    return HubRepo(name, revision, token, cache_dir)


class Folder:
    """A folder on this machine."""

    commit: str | None = None

    def __init__(self, name: str) -> None:
        self.name, self.root = name, Path(name).resolve()
        self.files: dict[str, int] = {}
        self.folders: set[str] = set()
        self.problems: list[Finding] = []
        waiting = [""]
        while waiting:
            folder = waiting.pop()
            try:
                with os.scandir(self.root / folder) as entries:
                    for entry in entries:
                        path = f"{folder}/{entry.name}".lstrip("/")
                        if path in IGNORED:
                            what = "git or `hf download` made it; no loader reads it."
                            self.problems.append(note(path, "was ignored", what))
                            continue
                        self._add(path, entry)
                        if path in self.folders:
                            waiting.append(path)
                        if len(self.files) + len(self.folders) + len(self.problems) > MOST_FILES:
                            self.problems.append(_too_many(name))
                            return
            except OSError as error:
                self.problems.append(unchecked(folder or name, "could not be listed", str(error)))

    def _add(self, path: str, entry: os.DirEntry[str]) -> None:
        self.problems.extend(check_paths([path]))
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            self.problems.append(
                failed(
                    path,
                    f"is a link to {os.readlink(self.root / path)}",
                    "Its target may change between this check and loading. In the cache of the Hub all files are "
                    "links: verify the Hub id instead.",
                )
            )
        elif stat.S_ISREG(status.st_mode):
            self.files[path] = status.st_size
        elif stat.S_ISDIR(status.st_mode):
            self.folders.add(path)
        else:
            self.problems.append(failed(path, "is not a regular file", "A pipe or a device has no content to check."))

    def local(self, path: str) -> Path:
        """The file itself."""
        return self.root / path

    def read(self, path: str) -> bytes:
        """Read a whole file, of the size that it had when it was listed."""
        return self.start(path, self.files[path])

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
            tree = api.list_repo_tree(name, recursive=True, revision=self.commit)
            entries = list(islice(tree, MOST_FILES + 1))
        except (OSError, HTTPError, HFValidationError) as error:
            raise UnreadableError(unreachable_hub(error) or str(error)) from error
        files = {entry.path: entry.size for entry in entries if isinstance(entry, RepoFile)}
        self.problems = check_paths(files)
        unsafe = {finding.where for finding in self.problems}
        self.files = {path: size for path, size in files.items() if path not in unsafe}
        self.folders = {str(folder) for path in self.files for folder in PurePosixPath(path).parents} - {"."}
        if len(entries) > MOST_FILES:
            self.problems.append(_too_many(name))

    def local(self, path: str) -> Path:
        """The file in the cache of the Hub, which loading uses as well."""
        try:
            return Path(
                hf_hub_download(self.name, path, revision=self.commit, token=self.token, cache_dir=self.cache_dir)  # type: ignore[arg-type]
            )
        except (OSError, HTTPError) as error:
            raise UnreadableError(str(error)) from error

    def read(self, path: str) -> bytes:
        """Read a whole file."""
        try:
            with self.local(path).open("rb") as file:
                return file.read(self.files[path])
        except OSError as error:
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


def _too_many(name: str) -> Finding:
    return failed(name, f"has more than {MOST_FILES} files", "A model has few; the others were not looked at.")


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
