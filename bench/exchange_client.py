"""A client process of exchanges: plain pyarrow, the same for all servers. As client.py it takes
jobs on stdin and answers each of them twice.
"""

from __future__ import annotations

import itertools
import json
import random
import resource
import sys
import threading
import time
from typing import Any

import pyarrow as pa
import pyarrow.flight as fl

from measured import hinted

_AHEAD = 3  # batches that a client which does not wait may have sent without an answer


class Job:
    """Batches of `rows` rows, for `sending` seconds; each column with integers of its range.

    way: "ahead": several batches are under way; "waiting": each waits for the answer to the one
    before; "apart": each is an exchange of its own.
    """

    def __init__(self, given: dict[str, Any]) -> None:
        self.given = given
        self.table = given["table"]
        made = random.Random(1)
        columns = [
            pa.array([made.randint(*bounds) for _ in range(given["rows"])], pa.int64())
            for bounds in given["columns"]
        ]
        self.batch = pa.RecordBatch.from_arrays(columns, ["x", "y"][: len(columns)])
        token = f"Bearer {given['token']}".encode()
        self.options = fl.FlightCallOptions(timeout=120, headers=[(b"authorization", token)])
        self.descriptor = fl.FlightDescriptor.for_path(given["function"])
        own = [("grpc.use_local_subchannel_pool", 1)]
        self.client = fl.connect(given["location"], generic_options=own)
        self.client.get_flight_info(self.descriptor, self.options)  # it is connected then
        self.expected = self.wanted = given["rows"]
        if self.table:
            self.wanted = sum(columns[0].to_pylist())
        self.ended: list[tuple[float, float, int]] = []  # when, after how long, rows
        self.until = 0.0

    def run(self) -> dict[str, Any]:
        cpu = _cpu()
        self.until = time.monotonic() + self.given["sending"]
        problem = ""
        try:
            _WAYS[self.given["way"]](self)
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
        return {"cpu": _cpu() - cpu, "ended": self.ended, "problem": problem}

    def check(self) -> None:
        """Raises ValueError when what the server answers is not what the function gives."""
        writer, reader = self._open()
        with writer:
            writer.write_batch(self.batch)
            writer.done_writing()
            got = reader.read_all()
        values = got.column(got.num_columns - 1).combine_chunks()
        if pa.types.is_struct(values.type):
            values = values.field(0)
        if values.to_pylist() != self._plain():
            raise ValueError("the answer is wrong")

    def ahead(self) -> None:
        writer, reader = self._open()
        sent: list[float] = []
        room = threading.Semaphore(_AHEAD)

        def write() -> None:
            while time.monotonic() < self.until:
                room.acquire()
                sent.append(time.monotonic())
                writer.write_batch(self.batch)
            writer.done_writing()

        thread = threading.Thread(target=write)
        thread.start()
        with writer:
            for number in itertools.count():
                if not self._answer(reader):
                    break
                self._end(sent[number])
                room.release()
            thread.join()

    def waiting(self) -> None:
        writer, reader = self._open()
        with writer:
            while (began := time.monotonic()) < self.until:
                writer.write_batch(self.batch)
                if not self._answer(reader):
                    raise ValueError("the exchange ended")
                self._end(began)

    def apart(self) -> None:
        while (began := time.monotonic()) < self.until:
            writer, reader = self._open()
            with writer:
                writer.write_batch(self.batch)
                writer.done_writing()
                if not self._answer(reader) or self._answer(reader):
                    raise ValueError("there is not one answer")
            self._end(began)

    def _open(self) -> tuple[Any, Any]:
        writer, reader = self.client.do_exchange(self.descriptor, self.options)
        writer.begin(self.batch.schema)
        return writer, reader

    def _answer(self, reader: Any) -> bool:
        """Take what answers one batch, whose rows are known. False when the server has ended."""
        left = self.wanted
        while left > 0:
            try:
                left -= reader.read_chunk().data.num_rows
            except StopIteration:
                if left != self.wanted:
                    raise ValueError(f"{left} rows are missing") from None
                return False
        if left:
            raise ValueError(f"{-left} rows are too many")
        return True

    def _end(self, began: float) -> None:
        now = time.monotonic()
        self.ended.append((now, now - began, self.wanted))

    def _plain(self) -> list[int]:
        function = {"lists": hinted.gcd, "arrays": hinted.plus}.get(self.given["function"])
        function = function or getattr(hinted, self.given["function"])
        results = map(function, *(column.to_pylist() for column in self.batch.columns))
        return [*itertools.chain.from_iterable(results)] if self.table else [*results]


_WAYS = {"ahead": Job.ahead, "waiting": Job.waiting, "apart": Job.apart}


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    for line in sys.stdin:
        job = Job(json.loads(line))
        if job.given["check"]:
            job.check()
        print(json.dumps("connected"), flush=True)
        sys.stdin.readline()
        print(json.dumps(job.run()), flush=True)


if __name__ == "__main__":
    main()
