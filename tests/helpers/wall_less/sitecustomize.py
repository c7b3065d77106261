"""Let a process stand on a kernel without walls; Python imports this file at the start
of each process.

The reader cell has its limits of memory and time then, and links are checked.
"""

from rsft.utils.cell import walls

walls.landlock_version = lambda: 0
walls.are_wanted = lambda: False
