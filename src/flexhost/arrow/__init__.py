"""Tables of Arrow: how they are cut, joined, cast and made of other frames."""
