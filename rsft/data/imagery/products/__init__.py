"""Read what radar products say about their pixels: unit, calibration, incidence angle, time."""

__all__ = [
    "radarsat",
    "vendor_tags",
]  # before others: RCM has a manifest.safe too, and folders of Umbra contain SICD
