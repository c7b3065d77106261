"""Tables, GeoPackages and styles of predictions."""
