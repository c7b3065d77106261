"""The tables of the paper: their cells, the runs that repeat them, and the code of the paper's authors beside them."""
