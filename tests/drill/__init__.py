"""The drill: its judge on made-up observed, its schedule, its report, and builds that it must find broken."""
