"""Purveyor: order management as one process or as many services, with the same guarantees in every shape."""

__version__ = "0.1.0"
