"""The reader cell: a process that reads files of strangers and does nothing else."""
