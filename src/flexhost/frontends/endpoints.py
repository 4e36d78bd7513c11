"""Where a result is read, as the bytes of Flight.proto."""

from __future__ import annotations

import pyarrow.flight as fl

from flexhost.frontends.flight_wire import encode_ticket


def endpoint(call_id: str, location: fl.Location, expires_at: float) -> fl.FlightEndpoint:
    """Where the result of a call is read, and until when, in seconds since the epoch.

    Made of its bytes (Flight.proto): the constructor would have pyarrow.compute imported for the
    time, and take five times as long.
    """
    ticket = encode_ticket(call_id).ticket
    seconds, part = divmod(int(expires_at * 1e9), 1_000_000_000)
    time = b"\x08" + _varint(seconds) + b"\x10" + _varint(part)
    return fl.FlightEndpoint.deserialize(
        _field(1, _field(1, ticket)) + _field(2, _field(1, location.uri)) + _field(3, time)
    )


def _field(number: int, data: bytes) -> bytes:
    """Of bytes, a text or a message, as protobuf encodes it."""
    return bytes([number << 3 | 2]) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
