"""Plug-ins that come with rsft. No other package imports from here.

One folder is one plug-in. Its file plugin.toml registers what it contains, in the
entry-point groups that other installed packages use as well:

    title = "Ship tracks"
    about = "Match the ships of a scene with messages of AIS."

    [entry-points."rsft.commands"]
    ais = "rsft.plugins.ais.commands:app"

A folder can be removed together with its tests, and the rest of rsft works.
"""
