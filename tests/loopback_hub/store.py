"""What a Hub remembers: repositories of immutable commits, their branches, and the large files beside them.

Contents lie on disk by their sha256. Every method that changes something holds one lock and changes nothing when it
raises, so that clients in several threads see whole commits only.
"""

import hashlib
import json
import posixpath
import threading
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

import pathspec

REPO_TYPES = ("model", "dataset")
REGULAR_FILE_LIMIT = 10 * 2**20  # bytes; the Hub takes nothing larger outside large file storage
LFS_PATTERNS = "7z arrow bin bz2 ckpt gz h5 joblib msgpack npy npz onnx parquet pickle pkl pt pth safetensors tar zip"
GITATTRIBUTES = "".join(f"*.{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_PATTERNS.split())


class HubError(Exception):
    """A refusal, as the Hub words it: a status, the code that its client turns into an exception, a message."""

    def __init__(self, status: int, message: str, code: str | None = None, headers: dict | None = None, **body):
        super().__init__(message)
        self.status, self.message, self.code, self.headers, self.body = status, message, code, headers or {}, body


class Entry(NamedTuple):
    """A file of a commit."""

    sha256: str
    size: int
    blob_id: str  # git's name of what it stores: the content, or the pointer to a large file
    lfs: bool

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.blob_id

    @property
    def pointer_size(self) -> int:
        return len(pointer(self.sha256, self.size))


def pointer(sha256: str, size: int) -> bytes:
    """What git holds in place of a large file."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass(frozen=True)
class Commit:
    """An immutable snapshot."""

    id: str  # 40 hexadecimal digits
    parent: "Commit | None"
    title: str
    description: str
    author: str
    date: str
    files: dict[str, Entry]

    def history(self) -> "list[Commit]":
        """This commit and those before it, the youngest first."""
        commits, commit = [], self
        while commit is not None:
            commits.append(commit)
            commit = commit.parent
        return commits

    def tree(self, folder: str, recursive: bool) -> list[dict]:
        """The files and folders in a folder, with all that is below it if `recursive`, as the Hub describes them."""
        prefix = folder.rstrip("/") + "/" if folder else ""
        entries = {}
        for path, entry in sorted(self.files.items()):
            if not path.startswith(prefix):
                continue
            steps = path[len(prefix) :].split("/")
            for depth in range(1, len(steps) if recursive else min(len(steps), 2)):
                name = prefix + "/".join(steps[:depth])
                entries[name] = {"type": "directory", "oid": git_hash(name.encode()), "size": 0, "path": name}
            if recursive or len(steps) == 1:
                entries[path] = {"type": "file", "oid": entry.blob_id, "size": entry.size, "path": path}
                if entry.lfs:
                    lfs = {"oid": entry.sha256, "size": entry.size, "pointerSize": entry.pointer_size}
                    entries[path]["lfs"] = lfs
        return list(entries.values())


@dataclass
class Repo:
    id: str
    type: str
    private: bool = False
    branches: dict[str, Commit] = field(default_factory=dict)
    pulls: dict[str, Commit] = field(default_factory=dict)  # refs/pr/1 …
    commits: dict[str, Commit] = field(default_factory=dict)
    large: dict[str, int] = field(default_factory=dict)  # sha256 of the uploaded large files: their size
    created: str = ""

    @property
    def url_path(self) -> str:
        return self.id if self.type == "model" else f"{self.type}s/{self.id}"

    def at(self, revision: str) -> Commit:
        """The snapshot of a branch, pull request, commit id or the unique beginning of one."""
        for refs in (self.branches, self.pulls, self.commits):
            if revision in refs:
                return refs[revision]
        starts = [commit for commit in self.commits.values() if len(revision) >= 7 and commit.id.startswith(revision)]
        if len(starts) != 1:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return starts[0]


class Store:
    """Every repository, by type and id.

    Args:
        folder: where contents are kept.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.repos: dict[tuple[str, str], Repo] = {}
        self.lock = threading.RLock()
        (folder / "contents").mkdir(parents=True)

    def content_path(self, sha256: str) -> Path:
        return self.folder / "contents" / sha256

    def keep(self, content: bytes) -> str:
        """Store bytes; returns their sha256."""
        sha256 = hashlib.sha256(content).hexdigest()
        path = self.content_path(sha256)
        with self.lock:
            if not path.exists():
                path.write_bytes(content)
        return sha256

    def read(self, entry: Entry) -> bytes:
        return self.content_path(entry.sha256).read_bytes()

    def create(self, repo_type: str, repo_id: str, author: str, *, private: bool) -> Repo:
        """A new repository, whose first commit holds `.gitattributes`."""
        with self.lock:
            if (repo_type, repo_id) in self.repos:
                raise HubError(409, f"You already created this {repo_type} repo: {repo_id}")
            repo = Repo(repo_id, repo_type, created=_now(), private=private)
            content = GITATTRIBUTES.encode()
            entry = Entry(self.keep(content), len(content), git_hash(content), lfs=False)
            repo.branches["main"] = self._add_commit(
                repo, None, {".gitattributes": entry}, "initial commit", "", author
            )
            self.repos[repo_type, repo_id] = repo
            return repo

    def delete(self, repo: Repo) -> None:
        with self.lock:
            del self.repos[repo.type, repo.id]

    def create_branch(self, repo: Repo, name: str, commit: Commit) -> None:
        with self.lock:
            if name in repo.branches:
                raise HubError(409, f"Reference {name} already exists")
            repo.branches[name] = commit

    def _add_commit(self, repo, parent, files, title, description, author) -> Commit:
        state = [parent and parent.id, len(repo.commits), sorted(files.items()), title, description, author, _now()]
        commit_id = hashlib.sha1(json.dumps(state).encode()).hexdigest()
        commit = Commit(commit_id, parent, title, description, author, state[-1], dict(files))
        repo.commits[commit_id] = commit
        return commit

    def commit(self, repo, branch, operations, title, description="", author="", parent=None, pull=False) -> Commit:
        """Apply operations to the head of a branch, all or none.

        Args:
            operations: pairs of what the commit endpoint calls `key` and `value`.
            parent: the commit that the caller believes to be the head; another one is refused with 412.
            pull: leave the branch and open a pull request.
        """
        with self.lock:
            if branch not in repo.branches and branch not in repo.pulls:
                raise HubError(404, f"Invalid rev id: {branch}", "RevisionNotFound")
            head = repo.at(branch)
            if parent is not None and not head.id.startswith(parent):
                raise HubError(412, f"The head of {branch} is {head.id}, not {parent}: it has moved since")
            files = dict(head.files)
            for key, value in operations:
                self._apply(repo, files, key, value)
            commit = self._add_commit(repo, head, files, title, description, author)
            if pull or branch in repo.pulls:
                repo.pulls[f"refs/pr/{len(repo.pulls) + 1}" if pull else branch] = commit
            else:
                repo.branches[branch] = commit
            return commit

    def _apply(self, repo: Repo, files: dict[str, Entry], key: str, value: dict) -> None:
        path = value["path"]
        if path.rstrip("/") != posixpath.normpath(path).lstrip("/") or path.startswith(".."):
            raise HubError(400, f"Not a path inside of the repository: {path}")
        if key == "file":
            content = value["content"]
            if len(content) > REGULAR_FILE_LIMIT:
                raise HubError(400, f"{path} is larger than {REGULAR_FILE_LIMIT} bytes: upload it as a large file")
            files[path] = Entry(self.keep(content), len(content), git_hash(content), lfs=False)
        elif key == "lfsFile":
            oid = value["oid"]
            if oid not in repo.large:
                raise HubError(400, f"The large file {oid} of {path} has not been uploaded to {repo.id}")
            size = repo.large[oid]
            files[path] = Entry(oid, size, git_hash(pointer(oid, size)), lfs=True)
        elif key == "deletedFile":
            if files.pop(path, None) is None:
                raise HubError(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
        elif key == "deletedFolder":
            inside = [name for name in files if name.startswith(path.rstrip("/") + "/")]
            if not inside:
                raise HubError(404, f"A folder with this name doesn't exist: {path}", "EntryNotFound")
            for name in inside:
                del files[name]
        else:
            raise HubError(400, f"Unknown operation of a commit: {key}")

    def keep_large(self, repo: Repo, oid: str, content: bytes) -> None:
        """Take an uploaded large file in, if its sha256 is the announced one."""
        sha256 = hashlib.sha256(content).hexdigest()
        if sha256 != oid:
            raise HubError(400, f"The uploaded bytes have the sha256 {sha256}, announced was {oid}")
        self.keep(content)
        with self.lock:
            repo.large[oid] = len(content)

    def is_large(self, repo: Repo, revision: str, path: str, size: int) -> bool:
        """Whether a file goes to large file storage, by `.gitattributes` and its size in bytes."""
        attributes = self._text(repo, revision, ".gitattributes")
        patterns = [line.split()[0] for line in attributes.splitlines() if "filter=lfs" in line]
        return size > REGULAR_FILE_LIMIT or matches(patterns, path)

    def is_ignored(self, repo: Repo, revision: str, path: str, gitignore: str | None) -> bool:
        if gitignore is None:
            gitignore = self._text(repo, revision, ".gitignore")
        return matches(gitignore.splitlines(), path)

    def _text(self, repo: Repo, revision: str, path: str) -> str:
        entry = repo.at(revision).files.get(path)
        return self.read(entry).decode() if entry else ""


def matches(patterns: list[str], path: str) -> bool:
    """Whether git's patterns match a path."""
    return pathspec.GitIgnoreSpec.from_lines(patterns).match_file(path)


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
