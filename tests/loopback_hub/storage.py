"""Where large files go: an origin of its own, without tokens, that takes and gives by signed addresses."""

import hashlib
import hmac
import math
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from tests.loopback_hub.store import HubError, Repo, Store


@dataclass
class Storage:
    """The handlers, and the addresses that lead to them."""

    store: Store
    origin: str
    secret: bytes
    part_size: int = 16 * 2**20  # bytes; a larger file is uploaded in parts of this size
    parts: dict[str, dict[int, bytes]] = field(default_factory=dict)  # by address, without its number, and number

    def routes(self) -> list[tuple]:
        upload = "/storage/{kind:kind}/{namespace}/{name}/{oid}"
        return [
            ("GET", "/storage/{oid}", self.send),
            ("PUT", upload, self.take),
            ("PUT", upload + "/{part}", self.take_part),
            ("POST", upload, self.join_parts),
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
            if file["size"] > self.part_size and "multipart" in wish.get("transfers", ()):
                count = math.ceil(file["size"] / self.part_size)
                parts = {str(number): self.address(f"{path}/{number}") for number in range(1, count + 1)}
                action["header"] = {"chunk_size": str(self.part_size)} | parts
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

    async def take_part(self, request: Request) -> Response:
        self._check(request)
        address, _, number = request.url.path.rpartition("/")
        content = await request.body()
        self.parts.setdefault(address, {})[int(number)] = content
        return Response(headers={"ETag": f'"{hashlib.md5(content).hexdigest()}"'})

    async def join_parts(self, request: Request) -> Response:
        oid = self._check(request)
        numbers = [part["partNumber"] for part in (await request.json())["parts"]]
        parts = self.parts.pop(request.url.path, {})
        self._keep(request, oid, b"".join(parts.get(number, b"") for number in numbers))
        return JSONResponse({})

    def _keep(self, request: Request, oid: str, content: bytes) -> None:
        repo_id = "{namespace}/{name}".format(**request.path_params)
        repo = self.store.repos.get((request.path_params["kind"][:-1], repo_id))
        if repo is None:
            raise HubError(404, "Repository not found", "RepoNotFound")
        self.store.keep_large(repo, oid, content)
