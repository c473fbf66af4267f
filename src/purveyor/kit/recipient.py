"""The mailbox behind a mail address, for limits per recipient."""

import hashlib
from contextlib import suppress

_DOTS_IGNORED = {"gmail.com", "googlemail.com"}


def mailbox_of(address: str) -> str:
    """Return the mailbox that an address leads to: in lower case, without ``+tag``, and without dots for Gmail."""
    local, _, domain = address.strip().lower().rpartition("@")
    local = local.partition("+")[0] or local
    if domain in _DOTS_IGNORED:
        return f"{local.replace('.', '')}@gmail.com"
    if not domain.isascii():
        with suppress(UnicodeError):  # no mail can be sent to such a domain
            domain = domain.encode("idna").decode()
    return f"{local}@{domain}"


def mailbox_digest(address: str) -> str:
    """Return the SHA-256 of the mailbox, to count its mails without storing the address."""
    return hashlib.sha256(mailbox_of(address).encode("utf-8", "surrogatepass")).hexdigest()
