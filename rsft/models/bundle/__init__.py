"""The bundle: the result of a run, which `rsft predict` needs besides the backbone."""
