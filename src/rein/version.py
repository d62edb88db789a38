"""The version, where every room can read it: in a picture's settings, a model's card, `rein --version`."""

__version__ = "0.1.0"
