"""The configuration files, installed as `explorer.conf`."""
