"""Data source messages, as they reach a caller."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from support import SCHEMA, function, serving

from flexhost import DataSourceMessage, with_messages
from flexhost.functions.messages import KEY

TABLE = pa.table({"n": [1, 2]}, schema=SCHEMA)
CUT = DataSourceMessage("CUT", {"rows": 2})


def told(schema):
    return json.loads(schema.metadata[KEY])


@pytest.mark.parametrize("data", [TABLE, TABLE.to_reader], ids=["table", "stream"])
def test_messages_of_a_function_reach_its_caller_with_the_call_they_are_of(data):
    def call(*_):
        return with_messages(data() if callable(data) else data, CUT)

    with serving(function(call)) as client:
        ticket = client.ticket()
        received = client.read(ticket)

    [message] = told(received.schema)
    assert received.equals(TABLE)
    assert message == {
        "type": "CUT",
        "data": {"rows": 2},
        "source": "numbers",
        "correlation_id": json.loads(ticket.ticket)["task_id"],
    }


def test_what_a_message_says_of_itself_stays():
    message = DataSourceMessage("INFO", source="erp", correlation_id="42")

    [said] = told(with_messages(TABLE, message).schema)

    assert said == {"type": "INFO", "data": None, "source": "erp", "correlation_id": "42"}


def test_more_messages_come_behind_those_that_are_there_and_other_metadata_stays():
    table = with_messages(TABLE.replace_schema_metadata({"mine": "1"}), CUT)

    both = with_messages(table, DataSourceMessage("MORE"), DataSourceMessage("LAST"))

    assert [message["type"] for message in told(both.schema)] == ["CUT", "MORE", "LAST"]
    assert both.schema.metadata[b"mine"] == b"1"


def test_a_schema_can_carry_messages_too():
    assert told(with_messages(SCHEMA, CUT))[0]["type"] == "CUT"


@pytest.mark.parametrize("data", [object(), float("nan")])
def test_what_is_no_json_is_no_message(data):
    with pytest.raises((TypeError, ValueError), match="JSON"):
        with_messages(TABLE, DataSourceMessage("X", data))
