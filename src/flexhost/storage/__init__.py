"""Results after their call: kept, cached, written to disk, read."""
