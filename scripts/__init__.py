"""The project's own tools; each of them also runs by itself: `python scripts/build.py`."""
