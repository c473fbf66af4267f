"""The drill: its judge on made-up facts, its schedule, its report, and builds that it must find broken."""
