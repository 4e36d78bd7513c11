"""What the commands are made of: hosts that are asked, rows that are shown, checks."""
