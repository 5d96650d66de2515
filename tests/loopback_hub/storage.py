"""Where large files go: an origin of its own, without tokens, that takes and gives by signed addresses."""

import hmac
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from tests.loopback_hub.store import HubError, Repo, Store


@dataclass
class Storage:
    """The handlers, and the addresses that lead to them."""

    store: Store
    origin: str
    secret: bytes

    def routes(self) -> list[tuple]:
        upload = "/storage/{kind:kind}/{namespace}/{name}/{oid}"
        return [
            ("GET", "/storage/{oid}", self.send),
            ("PUT", upload, self.take),
        ]

    def address(self, path: str) -> str:
        return self.origin + self._signed(path)

    def _signed(self, path: str) -> str:
        return f"{path}?signature={hmac.new(self.secret, path.encode(), 'sha256').hexdigest()}"

    def _check(self, request: Request) -> str:
        """The object that a request is about, if its address is signed."""
        if "authorization" in request.headers:
            raise HubError(400, "Only one way to identify oneself is allowed: storage must not be sent a token")
        if f"{request.url.path}?{request.url.query}" != self._signed(request.url.path):
            raise HubError(403, "The signature of this address of storage is wrong")
        return request.path_params["oid"]

    def upload_plan(self, repo: Repo, wish: dict) -> dict:
        """What to send where, in the words of Git LFS. Of the transfers, Xet is never chosen."""
        objects = []
        for file in wish["objects"]:
            path = f"/storage/{repo.type}s/{repo.id}/{file['oid']}"
            action = {"href": self.address(path)}
            known = file["oid"] in repo.large
            objects.append(file | ({} if known else {"actions": {"upload": action}}))
        return {"transfer": "basic", "objects": objects}

    async def send(self, request: Request) -> Response:
        oid = self._check(request)
        return FileResponse(self.store.content_path(oid), headers={"ETag": f'"{oid}"'})

    async def take(self, request: Request) -> Response:
        oid = self._check(request)
        self._keep(request, oid, await request.body())
        return Response()

    def _keep(self, request: Request, oid: str, content: bytes) -> None:
        repo_id = "{namespace}/{name}".format(**request.path_params)
        repo = self.store.repos.get((request.path_params["kind"][:-1], repo_id))
        if repo is None:
            raise HubError(404, "Repository not found", "RepoNotFound")
        self.store.keep_large(repo, oid, content)
