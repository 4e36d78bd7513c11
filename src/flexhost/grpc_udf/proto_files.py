"""Whether the messages in use are those that stand in `proto/`, as protoc reads them."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from flexhost.errors import StartError
from flexhost.grpc_udf.udf_messages import FILE, POOL, described


def differences(folder: Path) -> Iterator[str]:
    """Of the `.proto` files there: nothing when all is the same. Raises StartError."""
    files = sorted(folder.glob("*.proto"))
    if not files:
        raise StartError(f"there is no .proto file in {folder}")
    written = {file.name: file for file in described(_compiled(folder, files)).file}
    used = {file.name: file for file in described(FILE.read_bytes()).file}
    for name in sorted(written.keys() | used.keys()):
        if name not in used:
            yield f"{name}: is not used"
        elif name not in written:
            yield f"{name}: is used and is not there"
        elif written[name] != used[name]:
            yield f"{name}: is not what is used, make {FILE.name} anew"
        elif POOL.FindFileByName(name).serialized_pb != used[name].SerializeToString():
            yield f"{name}: is not what the service tells of itself"


def _compiled(folder: Path, files: list[Path]) -> bytes:
    """A FileDescriptorSet of protoc's. Raises StartError."""
    with tempfile.NamedTemporaryFile(suffix=".binpb") as made:
        told = subprocess.run(  # noqa: S603  # protoc, on the files that whoever calls it names
            [*_protoc(), f"--proto_path={folder}", f"--descriptor_set_out={made.name}", *files],
            capture_output=True,
            text=True,
            check=False,
        )
        if told.returncode:
            raise StartError(f"protoc does not take the files in {folder}: {told.stderr.strip()}")
        return Path(made.name).read_bytes()


def _protoc() -> list[str]:
    """The one of the PATH, else that of the package grpcio-tools."""
    if (found := shutil.which("protoc")) is not None:
        return [found]
    if importlib.util.find_spec("grpc_tools") is not None:
        return [sys.executable, "-m", "grpc_tools.protoc"]
    raise StartError("there is no protoc: install protobuf-compiler, or pip install grpcio-tools")
