"""Write the HTML report of a run, and the page that compares runs, from the files of the runs."""
