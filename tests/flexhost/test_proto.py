"""The .proto files, and whether the service uses exactly them."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
from google.protobuf import text_format
from support import ROOT, environment

from flexhost.errors import StartError
from flexhost.grpc_udf.proto_files import differences
from flexhost.grpc_udf.udf_messages import ERROR_CODES, POOL, TYPE_NAMES, ExtractionResponse
from flexhost.invoke import main

PROTO = ROOT / "proto"


def protoc(*options, given=b""):
    """What `protoc OPTIONS FILE` prints."""
    return subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", "-I.", *options],
        input=given,
        capture_output=True,
        cwd=ROOT,
        check=True,
    ).stdout


def test_the_service_uses_what_stands_in_the_proto_files():
    assert list(differences(PROTO)) == []


def test_a_command_says_so():
    told = subprocess.run(
        [sys.executable, "-m", "flexhost.invoke", "--check-proto"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment(ROOT),
        check=True,
    )

    assert told.stdout == "the service uses what stands in proto\n"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            ("string class_name = 3", "string class_name = 4"),
            "extractor.proto: is not what is used",
        ),
        (("package flink.udf.", "package udf."), "extractor.proto: is not what is used"),
    ],
)
def test_another_number_or_package_is_told(tmp_path, change, expected):
    shutil.copytree(PROTO, tmp_path, dirs_exist_ok=True)
    (changed := tmp_path / "extractor.proto").write_text(changed.read_text().replace(*change))

    [told] = differences(tmp_path)

    assert told.startswith(expected)


def test_a_file_too_many_or_none_is_told(tmp_path):
    (tmp_path / "more.proto").write_text('syntax = "proto3"; message More {}')

    assert list(differences(tmp_path)) == [
        "execution.proto: is used and is not there",
        "extractor.proto: is used and is not there",
        "more.proto: is not used",
        "runtime.proto: is used and is not there",
    ]
    with pytest.raises(StartError, match="there is no .proto file in"):
        list(differences(tmp_path / "nowhere"))


def test_what_protoc_does_not_take_is_told(tmp_path):
    (tmp_path / "broken.proto").write_text("message")

    with pytest.raises(
        StartError, match=r"(?s)protoc does not take the files in .*broken\.proto:1:8"
    ):
        list(differences(tmp_path))


def test_protoc_encodes_a_request_and_decodes_an_answer():
    encoded = protoc(
        "--encode=flink.udf.extractor.v1.ExtractionRequest",
        "proto/extractor.proto",
        given=b'class_name: "tests.udf_fixtures.add_one"',
    )
    answer = ExtractionResponse(function_kind="SCALAR", is_deterministic=True)
    decoded = protoc(
        "--decode=flink.udf.extractor.v1.ExtractionResponse",
        "proto/extractor.proto",
        given=answer.SerializeToString(),
    )

    assert encoded == b"\x1a\x1atests.udf_fixtures.add_one"
    assert text_format.Parse(decoded.decode(), ExtractionResponse()) == answer


# message → its fields, in the order of their numbers, those with a gap with theirs
FIELDS = {
    "flink.udf.extractor.v1.ExtractionRequest": "plugin_id plugin_version_id class_name",
    "flink.udf.extractor.v1.Signature": "argumentTypes returnType argumentNames",
    "flink.udf.extractor.v1.ExtractionResponse": (
        "error signatures is_deterministic function_kind"
    ),
    "flink.udf.extractor.v1.Error": "code error_message",
    "flink.udf.execution.v1.PythonRemoteUdfSpec": ("plugin_id class_name input_coder output_coder"),
    "flink.udf.execution.v1.CoderInfoDescriptor": (
        "flatten_row_type row_type separated_with_end_message=7"
    ),
    "flink.udf.execution.v1.FlattenRowType": "schema",
    "flink.udf.execution.v1.RowType": "schema",
    "flink.udf.execution.v1.Schema": "fields",
    "flink.udf.execution.v1.Field": "name description type",
    "flink.udf.execution.v1.FieldType": (
        "type_name nullable collection_element_type map_info row_schema decimal_info time_info "
        "timestamp_info local_zoned_timestamp_info zoned_timestamp_info binary_info "
        "var_binary_info char_info var_char_info"
    ),
    "flink.udf.execution.v1.MapInfo": "key_type value_type",
    "flink.udf.execution.v1.DecimalInfo": "precision scale",
    "secure.compute.function.runtime.v2.InvokeRequest": "payload",
    "secure.compute.function.runtime.v2.InvokeResponse": "payload error",
    "secure.compute.function.runtime.v2.Error": "code message retryable",
}


@pytest.mark.parametrize("message", FIELDS)
def test_the_numbers_of_fields_are_those_of_the_wire(message):
    expected = {}
    for number, field in enumerate(FIELDS[message].split(), 1):
        name, _, given = field.partition("=")
        expected[name] = int(given or number)

    found = POOL.FindMessageTypeByName(message).fields

    assert {field.name: field.number for field in found} == expected


def test_the_numbers_of_types_and_errors_are_those_of_the_wire():
    types = (
        "ROW TINYINT SMALLINT INT BIGINT DECIMAL FLOAT DOUBLE DATE TIME TIMESTAMP BOOLEAN BINARY "
        "VARBINARY CHAR VARCHAR BASIC_ARRAY MAP MULTISET LOCAL_ZONED_TIMESTAMP ZONED_TIMESTAMP NULL"
    )
    errors = (
        "UNKNOWN GENERAL_FAILED_EXTRACTION USER_CODE_NOT_FOUND NOT_SCALAR_FUNCTION "
        "NO_PUBLIC_NO_ARG_CONSTRUCTOR TYPE_EXTRACTION_ERROR NOT_SUPPORTED_FUNCTION "
        "CLASS_NOT_SERIALIZABLE"
    )

    assert {name: number for number, name in enumerate(types.split())} == TYPE_NAMES
    assert {name: number for number, name in enumerate(errors.split())} == ERROR_CODES


def test_an_unknown_handler_is_a_wrong_option(capsys):
    with pytest.raises(SystemExit):
        main(["--handler_name", "compile"])

    assert "'compile' is neither extraction nor execution" in capsys.readouterr().err
