"""A registry on this machine: it serves OCI layouts by the distribution specification, to whoever logs in where it is private."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
TOKEN = "a-token-of-the-registry"


@dataclass
class Registry:
    """What it has: blobs by digest, and the tags of its repositories. ``login`` is ``user:password``, empty for a public one.

    ``asked`` are the requests that it got, as ``METHOD /path``.
    """

    address: str = ""
    login: str = ""
    blobs: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def put(self, content: bytes, media: str) -> str:
        """Have a blob; returns its digest."""
        digest = f"sha256:{sha256(content).hexdigest()}"
        self.blobs[digest] = (media, content)
        return digest

    def tag(self, repository: str, name: str, layout: Path, *others: str) -> str:
        """Push the one image of an OCI layout; returns the hex digest of its manifest.

        With ``others``, names of machines, the tag is that of an index, which lists it after images for them.
        """
        for blob in (layout / "blobs/sha256").iterdir():
            self.put(blob.read_bytes(), "application/octet-stream")
        (listed,) = json.loads((layout / "index.json").read_text())["manifests"]
        manifest = self.blobs[listed["digest"]][1]
        digest = self.put(manifest, MANIFEST)
        target = digest
        if others:
            entries = [{"mediaType": MANIFEST, "digest": f"sha256:{'0' * 64}", "size": 1, "platform": _platform(one)} for one in others]
            entries.append({"mediaType": MANIFEST, "digest": digest, "size": len(manifest), "platform": _platform("amd64")})
            target = self.put(json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode(), INDEX)
        self.tags[f"{repository}:{name}"] = target
        return digest.removeprefix("sha256:")

    def put_sif(self, repository: str, name: str, sif: Path) -> None:
        """Push a SIF as ``apptainer push oras://…`` does."""
        config = self.put(b"{}", "application/vnd.sylabs.sif.config.v1+json")
        layer = self.put(sif.read_bytes(), "application/vnd.sylabs.sif.layer.v1.sif")
        parts: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.sylabs.sif.config.v1+json", "digest": config, "size": 2},
            "layers": [
                {
                    "mediaType": "application/vnd.sylabs.sif.layer.v1.sif",
                    "digest": layer,
                    "size": sif.stat().st_size,
                    "annotations": {"org.opencontainers.image.title": sif.name},
                }
            ],
        }
        self.tags[f"{repository}:{name}"] = self.put(json.dumps(parts).encode(), MANIFEST)


def _platform(machine: str) -> dict[str, str]:
    return {"architecture": machine, "os": "linux"}


@contextlib.contextmanager
def serving(login: str = "") -> Iterator[Registry]:
    """A registry that answers on a free port of this machine, by HTTP."""
    registry = Registry(login=login)

    class Handler(_Handler):
        shop = registry

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        registry.address = f"127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield registry
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    shop: Registry
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.shop.asked.append(f"{self.command} {self.path}")
        if self.path.startswith("/token"):
            return self._token()
        if self.shop.login and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            challenge = f'Bearer realm="http://{self.shop.address}/token",service="{self.shop.address}"'
            return self._answer(401, "application/json", b"{}", {"WWW-Authenticate": challenge})
        if self.path == "/v2/":
            return self._answer(200, "application/json", b"{}")
        repository, _, rest = self.path.removeprefix("/v2/").rpartition("/")
        repository, _, kind = repository.rpartition("/")
        digest = rest if rest.startswith("sha256:") else self.shop.tags.get(f"{repository}:{rest}", "")
        if kind not in ("manifests", "blobs") or digest not in self.shop.blobs:
            return self._answer(404, "application/json", b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}')
        media, content = self.shop.blobs[digest]
        return self._answer(200, media, content, {"Docker-Content-Digest": digest})

    do_HEAD = do_GET

    def _token(self) -> None:
        wanted = f"Basic {base64.b64encode(self.shop.login.encode()).decode()}"
        if self.headers.get("Authorization") != wanted:
            return self._answer(401, "application/json", b"{}")
        return self._answer(200, "application/json", json.dumps({"token": TOKEN}).encode())

    def _answer(self, code: int, media: str, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in {"Content-Type": media, "Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Tests have nothing to read in it."""
