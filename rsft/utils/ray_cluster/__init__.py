"""Ray: start it quietly, and end all of its processes with this one."""
