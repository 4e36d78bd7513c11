"""What a call goes through: its arguments, its bounds, who waits for it, and how it is stopped."""
