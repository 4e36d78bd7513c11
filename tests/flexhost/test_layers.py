"""The structure: who may import whom, and how few steps a call takes."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import traceback

import pyarrow as pa
from support import ROOT, SCHEMA, function, serving

from flexhost.call_queue import CallQueue

SRC = ROOT / "src" / "flexhost"
PAGE = (ROOT / "docs" / "architecture.md").read_text()

# From the lowest layer to the highest: a module imports from layers below its own.
LAYERS = [
    ["errors"],
    ["grpc_udf.grpc_packages", "grpc_udf.row_codec"],
    [
        "arrow.compute",
        "configuration.later",
        "filters.fields",
        "filters.periods",
        "values.record_types",
        "values.sql_names",
        "values.type_table",
    ],
    [
        "arrow.batches",
        "arrow.casts",
        "filters.context_filters",
        "filters.literals",
        "values.sql_types",
    ],
    ["contract", "filters.conditions", "filters.context_requests", "values.flink_types"],
    [
        "context",
        "filters.distinct",
        "filters.pushdown_arrow",
        "filters.pushdown_python",
        "filters.pushdown_sql",
        "values.typed",
    ],
    ["arrow.frames", "values.types"],
    ["pushdown"],
    ["elements", "queries.sql_templates"],
    [
        "caller",
        "version",
        "arrow.series",
        "calls.ids",
        "calls.stops",
        "functions.cache_policy",
        "functions.fresh",
        "functions.modules",
        "functions.resources",
        "functions.udf_options",
        "security.digests",
        "system.affinity",
        "system.bell",
        "system.control_groups",
        "system.ticker",
        "telemetry.events",
        "telemetry.masks",
        "values.problems",
        "workers.packed",
    ],
    ["storage.footprint", "values.building", "values.parameters"],
    ["values.columns"],
    ["function"],
    ["functions.flex_fun"],
    [
        "calls.coroutines",
        "calls.loop_thread",
        "calls.shares",
        "functions.eval_objects",
        "functions.failures",
        "functions.signature",
        "functions.table_functions",
        "storage.source",
        "system.capacity",
        "system.memory",
        "telemetry.spans",
    ],
    [
        "calls.arguments",
        "functions.batch_arguments",
        "functions.flink_wrappers",
        "functions.hinted",
        "storage.spool",
        "workers.channel",
        "workers.memory_files",
    ],
    ["arrow.rows", "calls.narrowing", "functions.declarations", "storage.kept"],
    ["calls.returned", "storage.retained"],
    ["call", "functions.function_class", "system.closers", "telemetry.health"],
    ["functions.row_loop"],
    ["functions.async_calls", "functions.column_calls", "functions.row_calls"],
    ["functions.plain"],
    ["functions.describe"],
    ["registry"],
    [
        "arrow.joined",
        "calls.run_bounds",
        "functions.messages",
        "storage.cache",
        "workers.worker_process",
    ],
    ["storage.reading"],
    [
        "call_queue",
        "executor",
        "results",
        "calls.call_loop",
        "calls.exchanges",
        "calls.waiters",
        "workers.worker_pool",
    ],
    [
        "calls.open_calls",
        "calls.upkeep",
        "executors.coroutines",
        "executors.processes",
        "executors.routed",
        "executors.threads",
    ],
    ["host"],
    ["in_process"],
    ["grpc_udf.execution", "grpc_udf.udf_messages"],
    ["grpc_udf.extraction", "grpc_udf.proto_files", "grpc_udf.runtime_client", "grpc_udf.udf_spec"],
    ["grpc_udf.class_names"],
    ["grpc_udf.overrides"],
    [
        "auth",
        "configuration.downloads",
        "configuration.files",
        "queries.statements",
        "security.certificates",
    ],
    ["queries.databases", "security.certificate_files", "security.jwks", "security.tokens"],
    ["sources"],
    ["frontends.connections", "frontends.flight_wire", "frontends.http"],
    ["frontends.address", "frontends.flight_streams", "frontends.tls"],
    [
        "frontends.endpoints",
        "frontends.flight_admission",
        "frontends.flight_batches",
        "frontends.flight_telling",
    ],
    ["frontends.flight_exchange"],
    ["frontends.flight"],
    ["frontends.invoke_handlers"],
    ["frontends.invoke"],
    ["frontends.listener"],
    [
        "configuration.kinds",
        "configuration.setting_sources",
        "telemetry.author_metrics",
        "telemetry.structured",
        "telemetry.writer",
    ],
    ["logs", "security.exposure"],
    ["telemetry.lines", "telemetry.put_off"],
    ["observability", "settings", "telemetry.prints"],
    ["telemetry.tallies"],
    [
        "security.jwt_tokens",
        "telemetry.gauges",
        "telemetry.metrics",
        "telemetry.tracing",
        "workers.continued",
        "workers.forwarded",
    ],
    ["workers.worker"],
    ["workers.worker_start"],
    ["workers.preloaded"],
    ["serving.served"],
    [
        "command_line.aligned",
        "command_line.plain_values",
        "command_line.reach",
        "security.verification",
        "serving.reloading",
        "serving.signals",
    ],
    ["serving.optional", "serving.runtime_service"],
    ["testing.filters"],
    ["testing.asked"],
    ["testing.label_elements", "testing.report"],
    ["testing.calls", "testing.differences"],
    ["testing.served", "testing.trial"],
    ["testing.cancelling", "testing.filter_honesty", "testing.plugin"],
    ["testing.conformity"],
    [
        "command_line.access",
        "command_line.answer",
        "command_line.formats",
        "command_line.given",
        "command_line.new_function",
        "command_line.progress",
        "command_line.shown_table",
        "command_line.where",
    ],
    [
        "command_line.call_output",
        "command_line.check",
        "command_line.data_source",
        "command_line.described",
        "command_line.doctor",
        "command_line.remote",
        "serving.server",
    ],
    ["command_line.local", "serving.standalone"],
    ["commands.options"],
    [
        "commands.call",
        "commands.check",
        "commands.describe",
        "commands.dev",
        "commands.doctor",
        "commands.functions",
        "commands.new",
        "commands.register",
        "commands.start",
    ],
    ["cli", "invoke", "spec"],
    ["__main__"],
]
CORE = [name for layer in LAYERS[: LAYERS.index(["in_process"]) + 1] for name in layer]
READS_TYPES = ("values.parameters", "values.problems")  # these may import msgspec
ALLOWED_IN_THE_CORE = {"flexhost", "pyarrow", "__future__", *sys.stdlib_module_names}


def imports(name):
    """Modules that a module of ours imports when it runs, as written."""
    tree = ast.parse((SRC / (name.replace(".", "/") + ".py")).read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively, which this does not read"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_module_has_its_layer():
    files = {
        ".".join(path.relative_to(SRC).with_suffix("").parts)
        for path in SRC.rglob("*.py")
        if path.name != "__init__.py"
    }

    assert files == {name for layer in LAYERS for name in layer}


def test_a_folder_hands_nothing_on():
    for path in SRC.glob("*/__init__.py"):
        if path.parent.name != "testing":  # whose names are for authors
            statements = [type(one) for one in ast.parse(path.read_text()).body]
            assert statements in ([], [ast.Expr]), path


def test_the_page_lists_the_folders():
    folders = {path.parent.name for path in SRC.glob("*/__init__.py")}

    assert set(re.findall(r"^\| `(\w+)/` \|", PAGE, re.MULTILINE)) == folders


def test_the_page_names_files_that_are_there():
    named = set(re.findall(r"[\w/]+\.(?:py|binpb)\b", PAGE))

    assert [name for name in named if not any((top / name).exists() for top in (SRC, ROOT))] == []


def test_the_page_lists_the_layers():
    listed = PAGE.partition("`tests/flexhost/test_layers.py` holds it.\n\n```\n")[2]
    text = listed.partition("```")[0].replace(",\n  ", ", ")
    lines = [re.split(r"\s{3,}", line)[0] for line in text.splitlines()]

    families = {"executors", "frontends", "testing", "commands"}
    shown = [
        {folder if (folder := name.partition(".")[0]) in families else name for name in layer}
        for layer in LAYERS
    ]
    merged = [layer for n, layer in enumerate(shown) if layer - families or layer != shown[n - 1]]
    assert [set(line.split(", ")) for line in lines] == merged[:-1]


def test_a_module_imports_only_from_the_layers_below_it():
    below: set[str] = set()
    for layer in LAYERS:
        for name in layer:
            ours = {i.removeprefix("flexhost.") for i in imports(name) if i.startswith("flexhost.")}
            modules = {i for i in ours if (SRC / (i.replace(".", "/") + ".py")).exists()}
            assert modules <= below, f"{name} imports {modules - below}"
        below.update(layer)


def test_the_core_imports_only_pyarrow_and_the_standard_library():
    for name in CORE:
        found = set(imports(name))
        allowed = ALLOWED_IN_THE_CORE | ({"msgspec"} if name in READS_TYPES else set())
        assert {i.split(".")[0] for i in found} <= allowed, name
        assert not any(i.startswith("pyarrow.flight") for i in found), name


def test_importing_what_authors_need_loads_no_server():
    code = "import flexhost, sys; print([m for m in sys.modules if m in %r])" % [
        "pyarrow.flight",
        "dynaconf",
        "structlog",
        "opentelemetry",
        "prometheus_client",
        "watchfiles",
        "tomlkit",
        "rich",
        "h11",
        "jwt",
        "duckdb",
        "psycopg",
        "grpc",
        "google.protobuf",
        "pyarrow.dataset",
    ]
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT / "src", check=True
    )

    assert found.stdout.strip() == "[]"


def test_a_host_starts_without_what_only_some_functions_use():
    code = (
        "import sys, flexhost.commands.start, flexhost.serving.server, flexhost.settings;"
        "from flexhost import logs; logs.configure();"
        "print([m for m in ('structlog', 'rich', 'asyncio', 'pandas') if m in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT / "src", check=True
    )

    assert found.stdout.strip() == "[]"


def test_the_way_from_the_handler_to_the_function_has_at_most_six_hops(monkeypatch):
    hops = {}

    def frames():
        stack = traceback.extract_stack(limit=100)[:-1]
        return [frame.name for frame in stack if str(SRC) in frame.filename]

    class Recording(CallQueue):
        def put(self, call, **more):
            hops["submitting"] = frames()
            return super().put(call, **more)

    def call(parameters, columns, headers):
        hops["working"] = frames()
        return pa.table({"n": [1]}, schema=SCHEMA)

    monkeypatch.setattr("flexhost.executors.threads.CallQueue", Recording)
    with serving(function(call)) as client:
        client.call()

    assert hops["submitting"] == ["get_flight_info", "submit", "submit"]
    # `steps` is all of `run`, to be begun and ended around an `await`; then the function: six
    assert hops["working"] == ["_work", "run", "steps"]
