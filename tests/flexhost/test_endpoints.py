"""An endpoint made of its bytes is the one that pyarrow makes."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.flight as fl
import pytest

from flexhost.frontends.endpoints import Endpoints
from flexhost.frontends.flight_wire import encode_ticket


@pytest.mark.parametrize("host", ["127.0.0.1", "h" * 200 + ".example"])
@pytest.mark.parametrize("at", [1_764_436_000.25, 4_102_444_800.0, 1.5, 127.0, 128.0])
def test_an_endpoint_is_the_same_as_that_of_the_constructor(host, at):
    location = fl.Location(f"grpc+tls://{host}:17001")
    expires = pa.scalar(int(at * 4) * 250_000_000, pa.timestamp("ns", "UTC"))

    made = Endpoints(location).of("0123456789abcdef" * 2, at)

    assert made == fl.FlightEndpoint(encode_ticket("0123456789abcdef" * 2), [location], expires)
    assert made.expiration_time == expires


def test_each_endpoint_has_its_own_ticket_and_time():
    location = fl.Location("grpc://127.0.0.1:17001")
    endpoints = Endpoints(location)
    of = [("a" * 32, 1000.0), ("b" * 32, 1000.2), ("c" * 32, 1000.3), ("d" * 32, 999.9)]

    made = [endpoints.of(*one) for one in of]

    assert [one.ticket for one in made] == [encode_ticket(call_id) for call_id, _ in of]
    times = [one.expiration_time.as_py().timestamp() for one in made]
    assert times == [1000.0, 1000.0, 1000.25, 999.75], "never later than it is"
