"""Where the numbers of a run go beside its own tables: one file a tracker."""
