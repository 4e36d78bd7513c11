"""A client of `FunctionRuntime` that knows none of its messages: it asks the server for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from support import LONG, Process

SERVICE = "secure.compute.function.runtime.v2.FunctionRuntime"


class Runtime:
    """metadata: of each request, as `grpcurl -H` sends it."""

    def __init__(self, channel: grpc.Channel, **metadata: str) -> None:
        self.channel = channel
        self.metadata = [*metadata.items()]
        self._pool = DescriptorPool(_Reflection(channel, self.metadata))

    def message(self, name: str) -> Any:
        return GetMessageClass(self._pool.FindMessageTypeByName(name))

    @property
    def services(self) -> list[str]:
        return list(ProtoReflectionDescriptorDatabase(self.channel).get_services())

    def invoke(self, payload: bytes, compression: Any = None, **metadata: str) -> Any:
        return self.begin(payload, compression, **metadata).result()

    def begin(self, payload: bytes, compression: Any = None, **metadata: str) -> Any:
        """The answer, as a future."""
        method = self._pool.FindServiceByName(SERVICE).methods_by_name["Invoke"]
        asked, answered = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
        call = self.channel.unary_unary(
            f"/{SERVICE}/Invoke", asked.SerializeToString, answered.FromString
        )
        given = [*self.metadata, *metadata.items()]
        return call.future(
            asked(payload=payload), timeout=LONG, metadata=given, compression=compression
        )

    def extract(self, class_name: str, **metadata: str) -> Any:
        asked = self.message("flink.udf.extractor.v1.ExtractionRequest")(class_name=class_name)
        answer = self.invoke(asked.SerializeToString(), **metadata)
        return self.message("flink.udf.extractor.v1.ExtractionResponse").FromString(answer.payload)

    def health(self, service: str = "") -> str:
        stub = health_pb2_grpc.HealthStub(self.channel)
        answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=LONG)
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


class _Reflection(ProtoReflectionDescriptorDatabase):
    """One that shows who it is."""

    def __init__(self, channel: grpc.Channel, metadata: Any) -> None:
        super().__init__(channel)
        asked = self._stub.ServerReflectionInfo
        self._stub.ServerReflectionInfo = lambda requests: asked(
            requests, metadata=metadata, timeout=LONG
        )


@contextmanager
def connected(port: int, credentials: Any = None, **metadata: str) -> Iterator[Runtime]:
    address = f"127.0.0.1:{port}"
    if credentials is None:
        channel = grpc.insecure_channel(address)
    else:
        channel = grpc.secure_channel(address, credentials)
    with channel:
        yield Runtime(channel, **metadata)


@contextmanager
def standing_alone(folder: Path, module: str, *options: str) -> Iterator[Process]:
    """`python -m flexhost.invoke` on a free port, in a folder with this source as my_udfs.py."""
    (file := folder / "my_udfs.py").write_text(module)
    given = ["--listen_port", "0", *options]
    started = Process([file], given, {}, config=False, command="", program="flexhost.invoke")
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.process.kill()
        started.process.wait()


def port_of(started: Process) -> int:
    return int(started.line(r"handler listens on localhost:(\d+)")[1])
