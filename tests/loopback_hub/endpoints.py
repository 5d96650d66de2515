"""The part of the Hub's HTTP interface that `huggingface_hub` uses, on a `Store`."""

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote

from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from tests.loopback_hub.metadata import check_card, read_metadata
from tests.loopback_hub.storage import Storage
from tests.loopback_hub.store import REPO_TYPES, Commit, Entry, HubError, Repo, Store


class _Kind(Convertor):
    """The part of a path that says the type of a repository."""

    regex = "|".join(f"{name}s" for name in REPO_TYPES)

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("kind", _Kind())
_OF_A_REPO = re.compile(r"/api/(models|datasets|spaces)/[^/]+(/revision/.*)?|/[^/]+/resolve/.*")


@dataclass(frozen=True)
class Account:
    """Whom a token stands for."""

    name: str
    orgs: tuple[str, ...] = ()
    write: bool = True

    def owns(self, repo_id: str) -> bool:
        return repo_id.split("/")[0] in (self.name, *self.orgs)


@dataclass
class Endpoints:
    """The handlers. Paths are still quoted where they arrive here, for the name of a branch may hold a slash."""

    store: Store
    storage: Storage
    accounts: dict[str, Account]  # by token
    endpoint: str

    def app(self) -> Starlette:
        repo = "/api/{kind:kind}/{namespace}/{name}"
        table = [
            ("GET", "/api/whoami-v2", self.whoami),
            ("POST", "/api/validate-yaml", self.validate_yaml),
            ("POST", "/api/repos/create", self.create_repo),
            ("DELETE", "/api/repos/delete", self.delete_repo),
            ("GET", repo, self.info),
            ("GET", repo + "/revision/{revision}", self.info),
            ("GET", repo + "/tree/{revision}", self.tree),
            ("GET", repo + "/tree/{revision}/{path:path}", self.tree),
            ("POST", repo + "/paths-info/{revision}", self.paths_info),
            ("GET", repo + "/refs", self.refs),
            ("GET", repo + "/commits/{revision}", self.commits),
            ("POST", repo + "/branch/{ref}", self.create_branch),
            ("DELETE", repo + "/branch/{ref}", self.delete_branch),
            ("POST", repo + "/preupload/{revision}", self.preupload),
            ("POST", repo + "/commit/{revision}", self.commit),
            ("POST", "/{namespace}/{name}.git/info/lfs/objects/batch", self.lfs_batch),
            ("POST", "/{kind:kind}/{namespace}/{name}.git/info/lfs/objects/batch", self.lfs_batch),
            ("GET", "/{namespace}/{name}/resolve/{revision}/{path:path}", self.resolve),
            ("GET", "/{kind:kind}/{namespace}/{name}/resolve/{revision}/{path:path}", self.resolve),
            *self.storage.routes(),
        ]
        routes = [Route(path, handler, methods=[method]) for method, path, handler in table]
        return Starlette(routes=routes, exception_handlers={HubError: refuse, 404: unknown_endpoint})

    # Who asks, and for what

    def account(self, request: Request) -> Account | None:
        header = request.headers.get("authorization")
        if header is None:
            return None
        try:
            return self.accounts[header.removeprefix("Bearer ")]
        except KeyError:
            raise HubError(401, "Invalid credentials in Authorization header") from None

    def signed_in(self, request: Request) -> Account:
        account = self.account(request)
        if account is None:
            raise HubError(401, "Invalid username or password.")
        return account

    def may_see(self, account: Account | None, repo: Repo) -> bool:
        return not repo.private or (account is not None and account.owns(repo.id))

    def repo(self, request: Request, write: bool = False) -> Repo:
        """The repository of a request, if its token may see it (and write to it)."""
        account = self.account(request)
        kind = request.path_params.get("kind", "models")
        repo_id = "{namespace}/{name}".format(**request.path_params)
        repo = self.store.repos.get((kind[:-1], repo_id))
        if repo is None or not self.may_see(account, repo):
            status, message = (404, "Repository not found") if account else (401, "Invalid username or password.")
            raise HubError(status, message, "RepoNotFound")
        if write:
            self.check_writer(self.signed_in(request), repo.id)
        return repo

    def check_writer(self, account: Account, repo_id: str) -> None:
        if not account.write:
            raise HubError(403, "Forbidden: this token may read only, use one with the role write")
        if not account.owns(repo_id):
            raise HubError(403, f"Forbidden: {account.name} has no right to write to {repo_id}")

    async def whoami(self, request: Request) -> Response:
        account = self.signed_in(request)
        token = {"displayName": account.name, "role": "write" if account.write else "read"}
        orgs = [{"type": "org", "name": name} for name in account.orgs]
        auth = {"type": "access_token", "accessToken": token}
        return JSONResponse({"type": "user", "name": account.name, "orgs": orgs, "auth": auth})

    # Repositories

    async def create_repo(self, request: Request) -> Response:
        account, wish = self.signed_in(request), await request.json()
        repo_id, repo_type = f"{wish.get('organization') or account.name}/{wish['name']}", wish.get("type") or "model"
        if repo_type not in REPO_TYPES:
            raise HubError(400, f"Unknown type of repository: {repo_type}")
        self.check_writer(account, repo_id)
        private = bool(wish.get("private")) or wish.get("visibility") == "private"
        try:
            repo = self.store.create(repo_type, repo_id, account.name, private=private)
        except HubError as error:
            error.body["url"] = f"{self.endpoint}/{self.store.repos[repo_type, repo_id].url_path}"
            raise
        return JSONResponse({"url": f"{self.endpoint}/{repo.url_path}", "name": repo.id})

    async def delete_repo(self, request: Request) -> Response:
        account, wish = self.signed_in(request), await request.json()
        request.path_params["kind"] = f"{wish.get('type') or 'model'}s"
        request.path_params["namespace"] = wish.get("organization") or account.name
        request.path_params["name"] = wish["name"]
        repo = self.repo(request, write=True)
        self.store.delete(repo)
        return JSONResponse({})

    async def info(self, request: Request) -> Response:
        repo = self.repo(request)
        commit = repo.at(unquote(request.path_params.get("revision", "main")))
        info = self.describe(repo, commit, blobs="blobs" in request.query_params)
        expand = request.query_params.getlist("expand")
        return JSONResponse({k: v for k, v in info.items() if k in ("id", *expand)} if expand else info)

    def describe(self, repo: Repo, commit: Commit, blobs: bool = False) -> dict:
        card = self.card(commit)
        tags = card.get("tags") or []
        info = {
            "_id": hashlib.sha1(repo.id.encode()).hexdigest()[:24],
            "id": repo.id,
            "modelId": repo.id,
            "author": repo.id.split("/")[0],
            "sha": commit.id,
            "lastModified": commit.date,
            "createdAt": repo.created,
            "private": repo.private,
            "gated": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [tags] if isinstance(tags, str) else tags,
            "cardData": card,
            "siblings": [self.sibling(path, entry, blobs) for path, entry in sorted(commit.files.items())],
        }
        info |= {key: card[key] for key in ("library_name", "pipeline_tag", "model-index") if key in card}
        return info

    def card(self, commit: Commit) -> dict:
        entry = commit.files.get("README.md")
        metadata = read_metadata(self.store.read(entry).decode()) if entry else None
        return metadata if isinstance(metadata, dict) else {}

    def sibling(self, path: str, entry: Entry, blobs: bool) -> dict:
        if not blobs:
            return {"rfilename": path}
        lfs = {"sha256": entry.sha256, "size": entry.size, "pointerSize": entry.pointer_size}
        sibling = {"rfilename": path, "size": entry.size, "blobId": entry.blob_id}
        return sibling | ({"lfs": lfs} if entry.lfs else {})

    # Revisions

    async def refs(self, request: Request) -> Response:
        repo = self.repo(request)

        def refs(kind, commits):
            return [{"name": n, "ref": kind + n, "targetCommit": commit.id} for n, commit in commits.items()]

        answer = {"branches": refs("refs/heads/", repo.branches), "tags": [], "converts": []}
        return JSONResponse(answer | {"pullRequests": refs("", repo.pulls)})

    async def commits(self, request: Request) -> Response:
        history = self.repo(request).at(unquote(request.path_params["revision"])).history()
        return JSONResponse(
            [
                {
                    "id": commit.id,
                    "title": commit.title,
                    "message": commit.description,
                    "date": commit.date,
                    "authors": [{"user": commit.author}],
                }
                for commit in history
            ]
        )

    async def create_branch(self, request: Request) -> Response:
        repo, wish = self.repo(request, write=True), await request.json()
        self.store.create_branch(repo, unquote(request.path_params["ref"]), repo.at(wish.get("startingPoint", "main")))
        return JSONResponse({})

    async def delete_branch(self, request: Request) -> Response:
        repo, name = self.repo(request, write=True), unquote(request.path_params["ref"])
        if name == "main":
            raise HubError(403, "The branch main cannot be deleted")
        if repo.branches.pop(name, None) is None:
            raise HubError(404, f"Invalid rev id: {name}", "RevisionNotFound")
        return JSONResponse({})

    # Commits

    async def validate_yaml(self, request: Request) -> Response:
        body = await request.json()
        errors, warnings = check_card(body["content"], body.get("repoType") or "model")
        answer = {"errors": [{"message": e} for e in errors], "warnings": [{"message": w} for w in warnings]}
        return JSONResponse(answer, 400 if errors else 200)

    async def preupload(self, request: Request) -> Response:
        """Which files are large, which are ignored, and the id of what stands in their place."""
        repo, body = self.repo(request, write=True), await request.json()
        revision = unquote(request.path_params["revision"])
        answer = []
        for file in body["files"]:
            path, there = file["path"], repo.at(revision).files.get(file["path"])
            answer.append(
                {
                    "path": path,
                    "uploadMode": "lfs" if self.store.is_large(repo, revision, path, file["size"]) else "regular",
                    "shouldIgnore": self.store.is_ignored(repo, revision, path, body.get("gitIgnore")),
                    "oid": there and there.etag,
                }
            )
        return JSONResponse({"files": answer, "commitOid": repo.at(revision).id})

    async def commit(self, request: Request) -> Response:
        repo, account = self.repo(request, write=True), self.signed_in(request)
        lines = [json.loads(line) for line in (await request.body()).splitlines() if line.strip()]
        header = next(line["value"] for line in lines if line["key"] == "header")
        operations = [(line["key"], decoded(line["value"])) for line in lines if line["key"] != "header"]
        for key, value in operations:
            if key == "file" and value["path"] == "README.md":
                errors, _ = check_card(value["content"].decode(), repo.type)
                if errors:
                    raise HubError(400, "Invalid metadata in README.md: " + "; ".join(errors))
        pull = request.query_params.get("create_pr") == "1"
        title, description, parent = header["summary"], header.get("description", ""), header.get("parentCommit")
        branch = unquote(request.path_params["revision"])
        commit = self.store.commit(repo, branch, operations, title, description, account.name, parent, pull)
        url = f"{self.endpoint}/{repo.url_path}"
        answer = {"success": True, "commitOid": commit.id, "commitUrl": f"{url}/commit/{commit.id}"}
        return JSONResponse(answer | ({"pullRequestUrl": f"{url}/discussions/{len(repo.pulls)}"} if pull else {}))

    # Files

    async def tree(self, request: Request) -> Response:
        repo, folder = self.repo(request), unquote(request.path_params.get("path", ""))
        commit = repo.at(unquote(request.path_params["revision"]))
        entries = commit.tree(folder, recursive=truth(request.query_params.get("recursive")))
        if folder and not entries:
            raise HubError(404, f"{folder} does not exist on {commit.id}", "EntryNotFound")
        return JSONResponse(entries)

    async def paths_info(self, request: Request) -> Response:
        commit = self.repo(request).at(unquote(request.path_params["revision"]))
        body = (await request.body()).decode()
        wish = json.loads(body) if "json" in request.headers.get("content-type", "") else parse_qs(body)
        entries = {entry["path"]: entry for entry in commit.tree("", recursive=True)}
        return JSONResponse([entries[path] for path in wish["paths"] if path in entries])

    async def resolve(self, request: Request) -> Response:
        """A file: itself, or for a large one the address in storage, with what the client wants to know of it."""
        repo, path = self.repo(request), unquote(request.path_params["path"])
        commit = repo.at(unquote(request.path_params["revision"]))
        headers = {"X-Repo-Commit": commit.id}
        entry = commit.files.get(path)
        if entry is None:
            raise HubError(404, "Entry not found", "EntryNotFound", headers)
        if not entry.lfs:
            return FileResponse(self.store.content_path(entry.sha256), headers=headers | {"ETag": f'"{entry.etag}"'})
        headers |= {"X-Linked-Etag": f'"{entry.etag}"', "X-Linked-Size": str(entry.size)}
        return RedirectResponse(self.storage.address(f"/storage/{entry.sha256}"), 302, headers)

    async def lfs_batch(self, request: Request) -> Response:
        repo, wish = self.repo(request, write=True), await request.json()
        return JSONResponse(self.storage.upload_plan(repo, wish))


def refuse(request: Request, error: HubError) -> Response:
    headers = error.headers | {"X-Error-Message": error.message} | ({"X-Error-Code": error.code} if error.code else {})
    return JSONResponse({"error": error.message} | error.body, error.status, headers)


def unknown_endpoint(request: Request, error: Exception) -> Response:
    """Nothing of that name: a repository whose id has no namespace, or what nobody has needed yet."""
    code = "RepoNotFound" if _OF_A_REPO.fullmatch(request.url.path) else None
    return refuse(request, HubError(404, f"The Hub for tests does not know {request.method} {request.url.path}", code))


def truth(value: str | None) -> bool:
    return (value or "").lower() in ("1", "true")


def decoded(value: dict) -> dict:
    return value | {"content": base64.b64decode(value["content"])} if value.get("encoding") == "base64" else value
