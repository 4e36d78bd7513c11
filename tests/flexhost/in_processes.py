"""A host whose functions run in worker processes, and what can be seen of these."""

from __future__ import annotations

import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pyarrow.flight as fl
import pytest
from support import LONG, Client, process

FUNCTIONS = """
import asyncio, ctypes, logging, os, signal, sys, threading, types
from typing import Annotated

import msgspec
import pyarrow as pa
import pyarrow.flight as fl
import structlog
from flexhost import BadArgument, FlexFun, ModuleHealthStatus, table_function
from flexhost.functions.cache_policy import CachePolicy

SCHEMA = pa.schema([("n", pa.int64())])


class Base(FlexFun):
    Executor = "processes"
    Schema = SCHEMA

    def rows(self, *values):
        return pa.table({"n": list(values)}, schema=self.Schema)


class Numbers(Base):
    Name = "numbers"

    def call(self, parameters, columns, headers):
        return self.rows(*range(parameters.get("upto", 3)))


class Whereabouts(Base):
    Name = "whereabouts"
    loaded = None

    @staticmethod
    def on_load(ctx):
        Whereabouts.loaded = os.getpid(), ctx.settings.mine.key, str(ctx.location.uri)
        ctx.on_close(lambda: open(ctx.settings.mine.closed, "a").write(f"{os.getpid()} "))

    def call(self, parameters, columns, headers):
        pid, key, uri = self.loaded
        return self.rows(os.getpid(), pid, os.getppid(), key, int("grpc" in uri))


class Fails(Base):
    Name = "fails"

    def call(self, parameters, columns, headers):
        match parameters["how"]:
            case "value": raise ValueError("too old")
            case "argument": raise BadArgument("age", "is too much")
            case "flight": raise fl.FlightUnavailableError("later", b"own extra")
            case "exit": os._exit(7)
            case "system exit": raise SystemExit(3)
            case "segfault": ctypes.string_at(0)
            case "kill": os.kill(os.getpid(), signal.SIGKILL)
            case "memory": bytearray(8 << 30)
            case "schema": return pa.table({"m": [1]})
            case "unpicklable":
                class Local(Exception):
                    def __init__(self): super().__init__("only here"); self.lock = threading.Lock()
                raise Local
            case "foreign":
                module = sys.modules["only_there"] = types.ModuleType("only_there")
                module.Far = type("Far", (Exception,), {"__module__": "only_there"})
                raise module.Far("from afar")


class Stream(Base):
    Name = "stream"

    def call(self, parameters, columns, headers):
        try:
            for n in range(parameters.get("upto", 1_000)):
                with open(parameters["log"], "a") as log:
                    log.write(f"{n} ")
                if n == parameters.get("die"):
                    os.kill(os.getpid(), signal.SIGKILL)
                if n == parameters.get("fail"):
                    raise OSError("the database went away")
                yield pa.record_batch({"n": [n] * parameters.get("rows", 1)}, schema=SCHEMA)
        finally:
            with open(parameters["log"], "a") as log:
                log.write("closed")


class Hangs(Base):
    Name = "hangs"
    DeadlineSec = 0.3

    def call(self, parameters, columns, headers):
        with open(parameters["log"], "w") as log:
            log.write(str(os.getpid()))
        self.log, self.wait = parameters["log"], threading.Event()
        match parameters["how"]:
            case "native": ctypes.PyDLL(None).sleep(600)  # with the lock of the interpreter
            case "python":
                while True: pass
            case "nicely": self.wait.wait(600)
        return self.rows()

    def cancel(self):
        with open(self.log, "a") as log:
            log.write(" cancelled")
        self.wait.set()
        return True


class Forks(Base):
    Name = "forks"
    DeadlineSec = 5

    def call(self, parameters, columns, headers):
        if (child := os.fork()) == 0:
            logging.getLogger("mine").warning("of a child")
            for _ in range(200):
                logging.getLogger("mine").warning("c" * 20_000)
            ctypes.PyDLL(None).sleep(600)
        with open(parameters["log"], "w") as log:
            log.write(str(child))
        match parameters["how"]:
            case "exit": os._exit(7)
        for _ in range(200):
            logging.getLogger("mine").warning("p" * 20_000)
        return self.rows(child)


class Sleeps(Base):
    Name = "sleeps"

    def call(self, parameters, columns, headers):
        open(parameters["log"], "w").close()
        ctypes.PyDLL(None).sleep(600)


class Waits(Base):
    Name = "waits"

    def call(self, parameters, columns, headers):
        open(parameters["log"], "w").close()
        while not os.path.exists(parameters["until"]):
            threading.Event().wait(0.01)
        return self.rows(1)


class Zeros(Base):
    Name = "zeros"

    def call(self, parameters, columns, headers):
        return pa.table({"n": pa.Array.from_buffers(
            pa.int64(), parameters["rows"], [None, pa.py_buffer(bytes(8 * parameters["rows"]))]
        )})


class Grows(Base):
    Name = "grows"
    kept = []

    def call(self, parameters, columns, headers):
        self.kept.append(bytearray(b"x") * parameters["bytes"])
        return self.rows(os.getpid())


class Says(Base):
    Name = "says"

    def call(self, parameters, columns, headers):
        print("printed")
        logging.getLogger("mine").warning("logged %s", 1)
        structlog.get_logger("ours").info("told", field={"a": 1})
        logging.getLogger("mine").debug("not told")
        try:
            1 / 0
        except ZeroDivisionError:
            logging.getLogger("mine").exception("caught")
        return self.rows()


class Gone(Base):
    Name = "gone"
    health = None

    @staticmethod
    def on_load(ctx):
        Gone.health = ctx.health

    def call(self, parameters, columns, headers):
        self.health.set_module_status("source", ModuleHealthStatus(parameters["status"]))
        return self.rows()


class Wants(msgspec.Struct):
    limit: Annotated[int, msgspec.Meta(ge=1)] = 2


class Typed(Base):
    Name = "typed"
    Schema = pa.schema([("n", pa.int64()), ("who", pa.string()), ("hint", pa.string())])
    Parameters = Wants

    def call(self, parameters, columns, headers):
        row = {"n": self.params.limit, "who": headers["x-who"][0], "hint": str(columns)}
        return [row] * self.params.limit


class Filtered(Base):
    Name = "filtered"
    ApplyFilters = True
    Schema = pa.schema([("region", pa.string()), ("year", pa.string())])

    def call(self, parameters, columns, headers):
        self.filters.take("year")  # and applies nothing: the receipt is believed
        return [{"region": r, "year": y} for r in ("EU", "US") for y in ("1", "2")]


class Cached(Base):
    Name = "cached"
    Cache = CachePolicy(ttl_sec=60)
    ran = 0

    def call(self, parameters, columns, headers):
        with open(parameters["log"], "a") as log:
            log.write("ran ")
        return self.rows(1)


@table_function(SCHEMA, executor="processes")
async def later(upto: int):
    await asyncio.sleep(0)
    return [{"n": n} for n in range(upto)]


class Threaded(FlexFun):
    Name = "threaded"
    Schema = SCHEMA

    def call(self, parameters, columns, headers):
        return pa.table({"n": [os.getpid()]})
"""


class Hosted(Client):
    """A client of the host, and its process."""

    def __init__(self, host):
        self.http = int(host.line(r"HTTP on 127.0.0.1:(\d+)")[1])
        super().__init__(host.port())
        self.host = host
        self.pid = host.process.pid


@contextmanager
def host_of(folder, settings=""):
    wanted = (
        "process_workers = 2\nhealth_check_host = '127.0.0.1'\nhealth_check_port = 0\n"
        f"{settings}\n[mine]\nkey = 5\nclosed = '{folder / 'closed'}'"
    )
    with process(folder, FUNCTIONS, wanted) as host:
        yield Hosted(host)


def children(pid):
    """Processes below this one, by their ids."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found += [int(stat.parent.name), *children(int(stat.parent.name))]
    return found


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def live(hosted):
    """What /live answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{hosted.http}/live", timeout=LONG) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def failed(client, name, **parameters):
    with pytest.raises(fl.FlightError) as raised:
        client.call(name, **parameters)
    return raised.value
