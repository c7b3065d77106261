"""The bundle: what a run leaves behind and `rsft predict` needs, except the backbone."""
