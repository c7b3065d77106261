"""Optional packages, and the telemetry of packages."""
