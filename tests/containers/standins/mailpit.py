"""A mail catcher with the part of Mailpit's HTTP interface that the test reads."""

import asyncio
import json
from email import message_from_bytes, policy
from email.utils import getaddresses
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

messages: list[dict[str, Any]] = []


class Catcher:
    """Takes every mail."""

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        """See ``aiosmtpd``."""
        assert isinstance(envelope.content, bytes)
        mail = message_from_bytes(envelope.content, policy=policy.default)
        to = [{"Name": name, "Address": address} for name, address in getaddresses(mail.get_all("To", []))]
        messages.insert(0, {"MessageID": mail["Message-ID"], "To": to, "Subject": mail["Subject"]})
        return "250 OK"


class Page(BaseHTTPRequestHandler):
    """``GET /api/v1/messages``."""

    def do_GET(self) -> None:
        """See ``BaseHTTPRequestHandler``."""
        body = json.dumps({"total": len(messages), "messages": messages}).encode()
        self.send_response(200 if self.path.startswith("/api/v1/messages") else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    Controller(Catcher(), hostname="0.0.0.0", port=1025, loop=asyncio.new_event_loop()).start()
    ThreadingHTTPServer(("0.0.0.0", 8025), Page).serve_forever()
