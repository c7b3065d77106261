"""A page to look through predictions and to correct them: one file, without a server or a network."""
