"""Write an HTML page for reviewing and correcting predictions.

It needs neither a server nor a network.
"""
