"""Sources of functions that run in worker processes."""

from __future__ import annotations

import psycopg
import pyarrow as pa
import pyarrow.flight as fl
import pyarrow.parquet as pq
import pytest
from postgres import postgres
from support import Client, process, until

FUNCTIONS = """
import pyarrow as pa
from flexhost import FlexFun
from flexhost.sources import *

table = ParquetTable({folder!r})
many = "generate_series(1, 100000000)"
forever = f"SELECT sum(a * b)::bigint AS n FROM {{many}} a, {{many}} b"


class Reads(FlexFun):
    Executor = "processes"
    Schema = table.schema
    source = None

    def call(self, parameters, columns, headers):
        return self.source.read(self.filters, columns)


class Parquet(Reads):
    Name, source = "parquet", table


class Embedded(Reads):
    Name, source = "embedded", SqlQuery("SELECT n FROM '{folder}/*.parquet' WHERE {{filters}}")


class Forever(Reads):
    Name, source, DeadlineSec = "forever", SqlQuery(forever, Postgres({url!r})), 0.5
"""


def test_sources_work_in_worker_processes_and_their_statements_end(tmp_path):
    pq.write_table(pa.table({"n": [1, 2, 3]}), tmp_path / "rows.parquet")
    others = (
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' "
        "AND pid <> pg_backend_pid()"
    )
    with postgres() as url, psycopg.connect(url, autocommit=True) as watching:
        module = FUNCTIONS.format(folder=str(tmp_path), url=url)
        with process(tmp_path, module, "process_workers = 1") as host:
            client = Client(host.port())
            assert client.call("parquet")["n"].to_pylist() == [1, 2, 3]
            assert client.call("embedded")["n"].to_pylist() == [1, 2, 3]
            with pytest.raises(fl.FlightTimedOutError):
                client.call("forever")
            until(lambda: watching.execute(others).fetchone() == (0,))
            assert client.call("parquet").num_rows == 3
