"""An endpoint made of its bytes is the one that pyarrow makes."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.flight as fl
import pytest

from flexhost.frontends.endpoints import endpoint
from flexhost.frontends.flight_wire import encode_ticket


@pytest.mark.parametrize("host", ["127.0.0.1", "h" * 200 + ".example"])
@pytest.mark.parametrize("at", [1_764_436_000.25, 4_102_444_800.0, 1.5, 127.0, 128.0])
def test_an_endpoint_is_the_same_as_that_of_the_constructor(host, at):
    location = fl.Location(f"grpc+tls://{host}:17001")
    expires = pa.scalar(int(at * 1e9), pa.timestamp("ns", "UTC"))

    made = endpoint("0123456789abcdef" * 2, location, at)

    assert made == fl.FlightEndpoint(encode_ticket("0123456789abcdef" * 2), [location], expires)
    assert made.expiration_time == expires
