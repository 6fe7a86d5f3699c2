"""Container images in the forms that travel without a registry, ``docker save``'s archive and the OCI layout, made from a folder."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

OCI = "application/vnd.oci.image"
EPOCH = 1_700_000_000
"""Every file's time: two archives of one content are the same bytes."""

APPLETS = ["sh", "ls", "cat", "echo", "env", "hostname", "id", "mkdir", "test", "true", "false", "sleep", "grep", "sed", "wc"]


def tiny_layer(busybox: Path) -> bytes:
    """A tar of a whole system: busybox, its best known names, and the folders that a container runtime mounts on."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for folder in ("bin", "dev", "etc", "home", "opt", "proc", "root", "sys", "tmp", "usr", "usr/bin", "var", "var/tmp"):
            _add(tar, folder, tarfile.DIRTYPE, mode=0o1777 if folder.endswith("tmp") else 0o755)
        for name, text in (("passwd", "root:x:0:0:root:/root:/bin/sh\n"), ("group", "root:x:0:\n"), ("hosts", ""), ("resolv.conf", "")):
            _add(tar, f"etc/{name}", content=text.encode())
        _add(tar, "bin/busybox", content=busybox.read_bytes(), mode=0o755)
        for applet in APPLETS:
            _add(tar, f"bin/{applet}", tarfile.SYMTYPE, target="busybox")
        _add(tar, "usr/bin/env", tarfile.SYMTYPE, target="/bin/busybox")
    return file.getvalue()


def folder_layer(root: Path) -> bytes:
    """A tar of a folder's content, all of it root's."""

    def nobodys(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        member.mtime = EPOCH
        return member

    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for path in sorted(root.iterdir()):
            tar.add(path, arcname=path.name, filter=nobodys)
    return file.getvalue()


def write_docker_archive(path: Path, layers: list[bytes], *, tag: str = "hpcest/tiny:1", env: dict[str, str] | None = None) -> Path:
    """What ``docker save`` writes: ``docker-archive:PATH``."""
    config = _config(layers, env)
    names = [f"{_sha(layer)}/layer.tar" for layer in layers]
    manifest = [{"Config": f"{_sha(config)}.json", "RepoTags": [tag], "Layers": names}]
    with tarfile.open(path, "w") as tar:
        _add(tar, f"{_sha(config)}.json", content=config)
        for name, layer in zip(names, layers, strict=True):
            _add(tar, name, content=layer)
        _add(tar, "manifest.json", content=json.dumps(manifest).encode())
    return path


def write_oci_layout(folder: Path, layers: list[bytes], *, tag: str = "1", env: dict[str, str] | None = None) -> Path:
    """What ``skopeo copy … oci:`` writes: ``oci:FOLDER`` (``apptainer build`` 1.4 knows no ``oci:FOLDER:TAG``)."""
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)

    def put(content: bytes, media: str) -> dict[str, object]:
        (blobs / _sha(content)).write_bytes(content)
        return {"mediaType": f"{OCI}.{media}", "digest": f"sha256:{_sha(content)}", "size": len(content)}

    manifest = put(_manifest(put, layers, env), "manifest.v1+json")
    manifest |= {"annotations": {"org.opencontainers.image.ref.name": tag}, "platform": {"architecture": "amd64", "os": "linux"}}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return folder


def _manifest(put: Callable[[bytes, str], dict[str, object]], layers: list[bytes], env: dict[str, str] | None) -> bytes:
    parts = {
        "schemaVersion": 2,
        "mediaType": f"{OCI}.manifest.v1+json",
        "config": put(_config(layers, env), "config.v1+json"),
        "layers": [put(gzip.compress(layer, 6, mtime=0), "layer.v1.tar+gzip") for layer in layers],
    }
    return json.dumps(parts).encode()


def _config(layers: list[bytes], env: dict[str, str] | None) -> bytes:
    variables = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", **(env or {})}
    config = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2023-11-14T22:13:20Z",
        "config": {"Env": [f"{name}={value}" for name, value in variables.items()], "Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{_sha(layer)}" for layer in layers]},
        "history": [{"created": "2023-11-14T22:13:20Z", "created_by": "hpcest's tests"} for _ in layers],
    }
    return json.dumps(config).encode()


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _add(
    tar: tarfile.TarFile, name: str, kind: bytes = tarfile.REGTYPE, *, content: bytes = b"", mode: int = 0o644, target: str = ""
) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.mtime, member.size, member.linkname = kind, mode, EPOCH, len(content), target
    tar.addfile(member, io.BytesIO(content))
