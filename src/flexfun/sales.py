"""A sample over a folder of Parquet files: what shops in the United States sold, month by month.

Source: U.S. Census Bureau, Monthly Retail Trade Survey, not seasonally adjusted, 2014 to 2019: the
series RSCCASN and MRTSSM4453USN of FRED, Federal Reserve Bank of St. Louis. A work of the United
States government, in the public domain. The Bureau revises its figures: these are not the newest.
"""

from pathlib import Path
from typing import Annotated

import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Meta

from flexhost import table_function
from flexhost.sources import ParquetTable

SALES = ParquetTable(Path(__file__).with_name("data") / "sales")
SCHEMA = pa.schema([("month", pa.date32()), ("kind", pa.string()), ("sales", pa.int64())])


@table_function(SCHEMA, name="RetailSales", metadata={"sales": "millions of US dollars"})
def retail_sales(filters, columns, at_least: Annotated[int, Meta(ge=0)] = 0):
    """at_least: leaves out months that sold less, in millions of US dollars."""
    return SALES.read(filters, columns, where=pc.field("sales") >= at_least)
