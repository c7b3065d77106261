"""Initial values of the head, computed from features of the frozen backbone."""
