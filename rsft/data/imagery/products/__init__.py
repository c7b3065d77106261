"""What radar products say about their pixels: unit, calibration, geometry, time."""
