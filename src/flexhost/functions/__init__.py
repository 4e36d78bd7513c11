"""What authors write, and how it becomes a Function."""
