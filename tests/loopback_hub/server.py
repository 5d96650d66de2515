"""A Hub on this machine, for the unmodified clients: `huggingface_hub`, `transformers`, `datasets`.

The clients find it by `HF_ENDPOINT`, which they read when they are imported: `Hub.run_python` starts a Python that has
it, `Hub.api` takes it as an argument, the fixture `hub_here` puts it into this process. Xet, the Hub's own way for
large files, is not spoken here, and a client that has `hf_xet` uploads by nothing else: it is turned off with the
setting that the clients have for that, `HF_HUB_DISABLE_XET`.
"""

import os
import re
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import unquote

import uvicorn
from huggingface_hub import HfApi

from tests.loopback_hub.endpoints import Account, Endpoints, refuse
from tests.loopback_hub.storage import Storage
from tests.loopback_hub.store import HubError, Repo, Store


@dataclass
class Request:
    """What came in, and what went out."""

    method: str
    path: str  # unquoted, without the query
    token: str | None
    status: int | None = None
    sent: int = 0


@dataclass
class Rule:
    """A refusal of the next requests that match."""

    pattern: str
    method: str | None
    times: int
    after: int
    error: HubError

    def takes(self, request: Request) -> bool:
        if self.times == 0 or self.method not in (None, request.method) or not fnmatchcase(request.path, self.pattern):
            return False
        if self.after > 0:
            self.after -= 1
            return False
        self.times -= 1
        return True


class Hub:
    """A running Hub, empty at first.

    `user` and the organisation `org` belong to `token`, which may write, and to `read_token`; `stranger` to
    `stranger_token`. A private repository is there for the tokens of its owner only.

    Args:
        folder: an empty folder for the Hub's files and, in `home`, for the caches of its clients.
    """

    user, org = "tester", "org"
    token, read_token, stranger_token = "hf_write", "hf_read", "hf_stranger"

    def __init__(self, folder: Path):
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        self.requests: list[Request] = []
        self.rules: list[Rule] = []
        self.store = Store(folder / "hub")
        self._sockets = [_listen(), _listen()]
        port, storage_port = (listener.getsockname()[1] for listener in self._sockets)
        self.endpoint = f"http://127.0.0.1:{port}"
        origin = f"http://localhost:{storage_port}"  # some clients tell origins apart by the host alone
        accounts = {
            self.token: Account(self.user, (self.org,)),
            self.read_token: Account(self.user, (self.org,), write=False),
            self.stranger_token: Account("stranger"),
        }
        self.storage = Storage(self.store, origin, secrets.token_bytes())
        self.endpoints = Endpoints(self.store, self.storage, accounts, self.endpoint)
        self._app = self.endpoints.app()
        quiet = {"log_config": None, "log_level": "error", "access_log": False}
        self._server = uvicorn.Server(uvicorn.Config(self, lifespan="off", timeout_graceful_shutdown=1, **quiet))
        self._thread = threading.Thread(target=self._server.run, args=(self._sockets,), daemon=True)

    def __enter__(self) -> "Hub":
        self._thread.start()
        while self._thread.is_alive() and not self._server.started:
            time.sleep(0.005)
        return self

    def __exit__(self, *exception) -> None:
        self._server.should_exit = True
        self._thread.join()

    # What tests do to it

    @property
    def api(self) -> HfApi:
        """A client with the right to write."""
        return HfApi(endpoint=self.endpoint, token=self.token)

    def commit(
        self,
        repo_id: str,
        files: Mapping[str, bytes | str],
        *,
        repo_type: str = "model",
        branch: str = "main",
        private: bool = False,
        title: str = "files",
    ) -> str:
        """Put files into a repository, made if it is not there, without a client; returns the commit's id."""
        repo = self.store.repos.get((repo_type, repo_id))
        repo = repo or self.store.create(repo_type, repo_id, self.user, private=private)
        operations = []
        for path, content in files.items():
            content = content.encode() if isinstance(content, str) else content
            if self.store.is_large(repo, branch, path, len(content)):
                oid = self.store.keep(content)
                self.store.keep_large(repo, oid, content)
                operations.append(("lfsFile", {"path": path, "oid": oid}))
            else:
                operations.append(("file", {"path": path, "content": content}))
        return self.store.commit(repo, branch, operations, title, author=self.user).id

    def repo(self, repo_id: str, repo_type: str = "model") -> Repo:
        return self.store.repos[repo_type, repo_id]

    def files(self, repo_id: str, revision: str = "main", repo_type: str = "model") -> dict[str, bytes]:
        """What a repository holds, by path."""
        entries = self.repo(repo_id, repo_type).at(revision).files
        return {path: self.store.read(entry) for path, entry in entries.items()}

    def fail(
        self,
        pattern: str,
        *,
        method: str | None = None,
        status: int = 500,
        message: str = "Injected failure",
        code: str | None = None,
        times: int = 1,
        after: int = 0,
    ) -> None:
        """Refuse the next `times` requests whose path matches (`*` stands for anything), `after` so many were let by.

        `huggingface_hub` asks again a few times, and slowly, after 500, 502, 503, 504 and 429.
        """
        self.rules.append(Rule(pattern, method, times, after, error=HubError(status, message, code)))

    # A Python that knows it

    def environment(self, token: str | None = token) -> dict[str, str]:
        """The variables of this process, with this Hub in place of any other, and caches of its own."""
        clients = re.compile(r"HF_|HUGGING|TRANSFORMERS_|.*_proxy$", re.IGNORECASE)
        mine = {name: value for name, value in os.environ.items() if not clients.match(name)}
        return mine | {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(self.home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            **({} if token is None else {"HF_TOKEN": token}),
        }

    def run_python(
        self,
        script: str,
        *args: object,
        token: str | None = token,
        package: bool = True,
        check: bool = True,
        timeout: float = 300,
        **environment: str,
    ) -> subprocess.CompletedProcess:
        """Run a script in a Python of its own, in an empty folder, with this Hub as `HF_ENDPOINT`.

        Args:
            script: the code; its `sys.argv[1:]` is `args`.
            package: whether `e4srec_hf` can be imported there.
            check: raise AssertionError with what it wrote if it fails.
            environment: further variables.
        """
        if not package:
            script = "import sys\nsys.modules['e4srec_hf'] = None\n" + script
        folder = self.folder / "work"
        folder.mkdir(exist_ok=True)
        done = subprocess.run(
            [sys.executable, "-c", script, *map(str, args)],
            cwd=folder,
            env=self.environment(token) | environment,
            text=True,
            capture_output=True,
            timeout=timeout,
        )
        assert not check or done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done

    # The server

    async def __call__(self, scope, receive, send) -> None:
        """Note a request down, and answer it or fail as a rule says."""
        raw = scope["raw_path"].decode()
        authorization = dict(scope["headers"]).get(b"authorization", b"").decode()
        request = Request(scope["method"], unquote(raw), authorization.removeprefix("Bearer ") or None)
        self.requests.append(request)
        error = next((rule.error for rule in self.rules if rule.takes(request)), None)

        async def noted_send(message):
            request.status = message.get("status", request.status)
            request.sent += len(message.get("body", b""))
            await send(message)

        app = self._app if error is None else refuse(None, error)
        await app(scope | {"path": raw}, receive, noted_send)


def _listen() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    return listener
