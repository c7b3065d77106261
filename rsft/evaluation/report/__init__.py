"""The HTML report of a run, and the page that compares runs. Both are written from files alone."""
