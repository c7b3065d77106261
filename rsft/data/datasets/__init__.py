"""Data sets as published, read where they lie, and the simulator that writes their formats."""
