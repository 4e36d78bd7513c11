"""The messages by which functions are described and called over gRPC.

`udf_messages.binpb` is what protoc makes of `proto/`, which is where they are written:

    protoc -I proto -o src/flexhost/grpc_udf/udf_messages.binpb proto/*.proto

Classes made of it at start, and not generated modules: those need a protobuf as new as the
protoc that made them. `python -m flexhost.invoke --check-proto` says whether the two are the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

FILE = Path(__file__).with_name("udf_messages.binpb")
SERVICE, METHOD = "secure.compute.function.runtime.v2.FunctionRuntime", "Invoke"

_EXTRACTION = "flink.udf.extractor.v1"
_EXECUTION = "flink.udf.execution.v1"
_RUNTIME = "secure.compute.function.runtime.v2"


def described(data: bytes) -> FileDescriptorSet:
    """Raises google.protobuf.message.DecodeError."""
    return FileDescriptorSet.FromString(data)


# Of its own, so that what a function's libraries bring under these names does not matter.
POOL = DescriptorPool()
for _file in described(FILE.read_bytes()).file:
    POOL.Add(_file)


def _message(package: str, name: str) -> Any:
    """Any: what protobuf makes at run time has no types."""
    return GetMessageClass(POOL.FindMessageTypeByName(f"{package}.{name}"))


def _enum(package: str, name: str) -> dict[str, int]:
    found = POOL.FindEnumTypeByName(f"{package}.{name}")
    return {value.name: cast(int, value.number) for value in found.values}


InvokeRequest = _message(_RUNTIME, "InvokeRequest")
InvokeResponse = _message(_RUNTIME, "InvokeResponse")
ExtractionRequest = _message(_EXTRACTION, "ExtractionRequest")
ExtractionResponse = _message(_EXTRACTION, "ExtractionResponse")
PythonRemoteUdfSpec = _message(_EXECUTION, "PythonRemoteUdfSpec")
FieldType = _message(_EXECUTION, "FieldType")
ERROR_CODES = _enum(_EXTRACTION, "ErrorCode")
TYPE_NAMES = _enum(_EXECUTION, "TypeName")
