"""Where the values of the settings come from, and of which kinds they are."""
