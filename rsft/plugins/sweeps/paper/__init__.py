"""Repeat the tables of the paper, also with the code of its authors."""
