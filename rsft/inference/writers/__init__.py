"""Write predictions as tables and as styled map layers."""
