"""Match AIS messages of ships to the objects in a radar scene."""
