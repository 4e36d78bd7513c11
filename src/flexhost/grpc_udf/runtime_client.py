"""A client of `FunctionRuntime`, for the command line."""

from __future__ import annotations

import grpc

from flexhost.errors import FunctionFailed, StartError
from flexhost.grpc_udf.udf_messages import METHOD, SERVICE, InvokeRequest, InvokeResponse

_SECONDS = 60.0


def invoke(address: str, payload: bytes, **metadata: str) -> bytes:
    """The payload of the answer.

    Raises StartError when there is none, and FunctionFailed when it says that it failed.
    """
    with grpc.insecure_channel(address) as channel:
        method = channel.unary_unary(
            f"/{SERVICE}/{METHOD}", InvokeRequest.SerializeToString, InvokeResponse.FromString
        )
        request = InvokeRequest(payload=payload)
        try:
            answer = method(request, timeout=_SECONDS, metadata=[*metadata.items()])
        except grpc.RpcError as error:
            why = f"{error.code().name}: {error.details()}"
            raise StartError(f"{address} gave no answer: {why}") from None
    if answer.HasField("error"):
        raise FunctionFailed(answer.error.message)
    data: bytes = answer.payload
    return data
