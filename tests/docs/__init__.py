"""Tests of the pages, of the example and of what they promise."""
