"""What a call asks for: the filters of its request, and how they are applied."""
