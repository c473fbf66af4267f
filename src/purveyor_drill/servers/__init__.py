"""Private servers: real ones, on free loopback ports and in temporary folders.

Each has ``start``, ``stop``, ``halt``, ``restart``, ``kill``, ``freeze``, ``thaw`` and ``url``;
``available()`` says why it cannot be started here. A URL in the environment (``TEST_POSTGRES_URL`` and so on)
takes its place.
"""
