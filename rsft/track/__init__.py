"""Where the numbers of a run go beside its own tables: one file a tracker."""

from rsft.track.trackers import Tracker, open_tracker, require_trackers

__all__ = ["Tracker", "open_tracker", "require_trackers"]
