"""Write predictions as tables and map layers with a style."""
