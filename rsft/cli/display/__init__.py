"""Output in the terminal: tables, progress, live displays."""
