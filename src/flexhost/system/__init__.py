"""What the host asks of the machine: cores, memory, threads."""
