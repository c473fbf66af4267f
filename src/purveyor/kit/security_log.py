"""The log of security events: what happened, to whom, by whom and from which network (ASVS 16.2.1, 16.3.1)."""

import hashlib
import logging
from contextvars import ContextVar

network: ContextVar[str] = ContextVar("network", default="")
"""The network of the client whose request this task handles; empty outside of requests."""
log = logging.getLogger("purveyor.security")


def record(event: str, *, subject: str, actor: str = "", **more: object) -> None:
    """Log a security event, such as ``login.failed``. ``subject`` and ``actor`` are user ids; ``actor`` acted."""
    log.info(event, extra={"network": network.get(), "subject": subject, "actor": actor, **more})


def unknown_subject(address: str) -> str:
    """A subject for a mail address without account: recognizable, but not the address itself."""
    return f"sha256:{hashlib.sha256(address.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"
