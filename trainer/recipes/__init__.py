"""One run a file: its command, its cost, its expected result."""
