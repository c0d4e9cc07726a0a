"""The entrance from Python: `explorer.explore` and `explorer.population`."""
