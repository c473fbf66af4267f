"""Which addresses lead to one mailbox."""

import pytest

from purveyor.kit.recipient import mailbox_digest, mailbox_of


@pytest.mark.parametrize(
    ("address", "mailbox"),
    [
        ("ann@b.test", "ann@b.test"),
        (" Ann@B.test", "ann@b.test"),
        ("ann+1@b.test", "ann@b.test"),
        ("ann+one+two@b.test", "ann@b.test"),
        ("+ann@b.test", "+ann@b.test"),
        ("a.n.n@b.test", "a.n.n@b.test"),
        ("a.n.n+x@gmail.com", "ann@gmail.com"),
        ("Ann@GoogleMail.com", "ann@gmail.com"),
        ("ann@b\u00fccher.de", "ann@xn--bcher-kva.de"),
        ("no address", "@no address"),
    ],
)
def test_the_mailbox_of_an_address(address: str, mailbox: str) -> None:
    assert mailbox_of(address) == mailbox
    assert mailbox_digest(address) == mailbox_digest(mailbox_of(address))
