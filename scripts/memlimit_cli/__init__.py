"""What the command `memlimit` is made of. Standard library only."""
