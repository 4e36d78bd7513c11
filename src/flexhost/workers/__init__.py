"""Worker processes: both sides, and what goes between them."""
