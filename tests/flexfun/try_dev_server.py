"""Lists the functions of a running dev server (`make dev-server`), calls one, prints the table.

.venv/bin/python tests/flexfun/try_dev_server.py [FUNCTION] [grpc://HOST:PORT]
"""

import json
import sys

import pyarrow.flight as fl

function = sys.argv[1] if len(sys.argv) > 1 else "SampleFlexFunction"
address = sys.argv[2] if len(sys.argv) > 2 else "grpc://127.0.0.1:17001"

with fl.connect(address) as client:
    for flight in client.list_flights():
        name = json.loads(flight.descriptor.command)["functionName"]
        print(f"{name}: {', '.join(f'{field.name} {field.type}' for field in flight.schema)}")

    command = json.dumps({"functionName": function, "parameters": {}})
    info = client.get_flight_info(fl.FlightDescriptor.for_command(command))
    table = client.do_get(info.endpoints[0].ticket).read_all()

print(f"\n{function} answered {table.num_rows} rows:")
print("  ".join(table.column_names))
for row in table.to_pylist():
    print("  ".join(str(value) for value in row.values()))
