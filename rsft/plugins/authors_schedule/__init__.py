"""The outer loop as the code of the paper runs it."""
