"""Types and values: Python hint, Arrow, SQL, and what is wrong with a value."""
