"""What an ExtractionRequest is answered with, whatever it holds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flexhost.errors import UnknownFunction
from flexhost.functions.describe import describe
from flexhost.grpc_udf import extraction
from flexhost.grpc_udf.udf_messages import ERROR_CODES, ExtractionResponse


def find(name):
    raise UnknownFunction(f"no function is named {name!r}")


@given(st.binary(max_size=50))
def test_any_bytes_are_answered(data):
    answer = ExtractionResponse.FromString(extraction.answer(data, find))

    assert answer.error.code in (
        ERROR_CODES["USER_CODE_NOT_FOUND"],
        ERROR_CODES["GENERAL_FAILED_EXTRACTION"],
    )


def test_a_function_with_defaults_is_described_without_them():
    def scaled(value: float, by: float = 2.0) -> float:
        return value * by

    answer = extraction.answer(b"", lambda name: describe(scaled))
    [signature] = ExtractionResponse.FromString(answer).signatures

    assert signature.argumentNames == ["value"]
