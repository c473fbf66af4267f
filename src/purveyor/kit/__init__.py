"""Tools without one business word; imports nothing else of ours."""
