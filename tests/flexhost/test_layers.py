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

# From the lowest layer to the highest: a module imports from layers below its own.
LAYERS = [
    ["errors"],
    ["row_codec", "grpc_packages"],
    ["fields", "periods", "compute", "later", "record_types", "sql_names", "type_table"],
    ["context_filters", "literals", "batches", "casts", "sql_types"],
    ["context_requests", "conditions", "contract", "flink_types"],
    ["context", "pushdown_arrow", "pushdown_python", "pushdown_sql", "distinct", "typed"],
    ["frames", "types"],
    ["pushdown"],
    ["elements", "sql_templates"],
    [
        "events",
        "control_groups",
        "ids",
        "bell",
        "affinity",
        "cache_policy",
        "caller",
        "digests",
        "fresh",
        "masks",
        "modules",
        "packed",
        "ticker",
        "udf_options",
        "problems",
        "resources",
        "series",
        "stops",
        "version",
    ],
    ["parameters", "footprint", "building"],
    ["columns"],
    ["function"],
    ["flex_fun"],
    [
        "memory",
        "capacity",
        "shares",
        "failures",
        "source",
        "spans",
        "coroutines",
        "loop_thread",
        "table_functions",
        "signature",
        "eval_objects",
    ],
    [
        "spool",
        "arguments",
        "channel",
        "memory_files",
        "batch_arguments",
        "flink_wrappers",
        "hinted",
    ],
    ["kept", "rows", "declarations", "narrowing"],
    ["retained", "returned"],
    ["call", "health", "closers", "function_class"],
    ["row_loop"],
    ["async_calls", "column_calls", "row_calls"],
    ["plain"],
    ["describe"],
    ["registry"],
    ["joined", "cache", "messages", "run_bounds", "worker_process"],
    ["reading"],
    [
        "call_queue",
        "call_loop",
        "executor",
        "exchanges",
        "results",
        "waiters",
        "worker_pool",
    ],
    [
        "executors.threads",
        "executors.coroutines",
        "executors.routed",
        "executors.processes",
        "open_calls",
        "upkeep",
    ],
    ["host"],
    ["in_process"],
    ["execution", "udf_messages"],
    ["extraction", "proto_files", "runtime_client", "udf_spec"],
    ["class_names"],
    ["overrides"],
    ["auth", "files", "downloads", "certificates", "statements"],
    ["tokens", "jwks", "certificate_files", "databases"],
    ["sources"],
    ["frontends.flight_wire", "frontends.http", "frontends.connections"],
    ["frontends.address", "frontends.flight_streams", "frontends.tls"],
    [
        "frontends.flight_admission",
        "frontends.flight_batches",
        "frontends.flight_telling",
        "frontends.endpoints",
    ],
    ["frontends.flight_exchange"],
    ["frontends.flight"],
    ["frontends.invoke_handlers"],
    ["frontends.invoke"],
    ["frontends.listener"],
    ["setting_sources", "kinds", "writer", "author_metrics", "structured"],
    ["exposure", "logs"],
    ["put_off", "lines"],
    ["settings", "observability", "prints"],
    ["tallies"],
    ["metrics", "gauges", "jwt_tokens", "tracing", "continued", "forwarded"],
    ["worker"],
    ["worker_start"],
    ["preloaded"],
    ["served"],
    ["verification", "reach", "signals", "reloading", "aligned", "plain_values"],
    ["runtime_service", "optional"],
    ["testing.filters"],
    ["testing.asked"],
    ["testing.report", "testing.label_elements"],
    ["testing.calls", "testing.differences"],
    ["testing.served", "testing.trial"],
    ["testing.filter_honesty", "testing.cancelling", "testing.plugin"],
    ["testing.conformity"],
    ["access", "answer", "formats", "given", "new_function", "progress", "shown_table", "where"],
    ["server", "doctor", "check", "data_source", "call_output", "described", "remote"],
    ["local", "standalone"],
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
READS_TYPES = ("parameters", "problems")  # these may import msgspec
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
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_module_has_its_layer():
    files = {
        ".".join(path.relative_to(SRC).with_suffix("").parts)
        for path in SRC.rglob("*.py")
        if path.name != "__init__.py"
    }

    assert files == {name for layer in LAYERS for name in layer}


def test_the_page_lists_the_layers():
    page = (ROOT / "docs" / "architecture.md").read_text()
    listed = page.partition("`tests/flexhost/test_layers.py` holds it.\n\n```\n")[2]
    lines = [re.split(r"\s{3,}", line)[0] for line in listed.partition("```")[0].splitlines()]

    shown = [{name.partition(".")[0] for name in layer} for layer in LAYERS]
    families = {"executors", "frontends", "testing", "commands"}
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
        "import sys, flexhost.commands.start, flexhost.server, flexhost.settings;"
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
