"""Where a result is read, as the bytes of Flight.proto."""

from __future__ import annotations

import functools

import pyarrow.flight as fl

from flexhost.frontends.flight_wire import encode_ticket

# Parts of a second that an expiry is told in, rounded down: calls that end together share them.
_PARTS = 4


class Endpoints:
    """Of the results that are read at `location`.

    Made of their bytes (Flight.proto): the constructor would have pyarrow.compute imported for the
    time, and take five times as long.
    """

    def __init__(self, location: fl.Location) -> None:
        self._location = _field(2, _field(1, location.uri))
        self._moment = 0, b""  # of the last one

    def of(self, call_id: str, expires_at: float) -> fl.FlightEndpoint:
        """expires_at: seconds since the epoch."""
        parts, time = self._moment
        if parts != (wanted := int(expires_at * _PARTS)):
            time = _time(wanted)
            self._moment = wanted, time
        ticket = encode_ticket(call_id).ticket
        return fl.FlightEndpoint.deserialize(
            _before_ticket(len(ticket)) + ticket + self._location + time
        )


def _time(parts: int) -> bytes:
    seconds, part = divmod(parts, _PARTS)
    nanoseconds = part * 1_000_000_000 // _PARTS
    return _field(3, b"\x08" + _varint(seconds) + b"\x10" + _varint(nanoseconds))


@functools.cache  # ids are all of one length
def _before_ticket(size: int) -> bytes:
    return _head(1, len(_head(1, size)) + size) + _head(1, size)


def _field(number: int, data: bytes) -> bytes:
    """Of bytes, a text or a message, as protobuf encodes it."""
    return _head(number, len(data)) + data


def _head(number: int, size: int) -> bytes:
    return bytes([number << 3 | 2]) + _varint(size)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
