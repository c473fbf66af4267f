"""Names of libraries that we rely on although they are not public.

Each has an upper version bound in pyproject.toml and one test here. When an upgrade moves the bound, these tests
say what else has to move.
"""

import inspect
import re

import email_validator
import pytest
import typer
from aiokafka import AIOKafkaProducer
from aiokafka.producer.sender import Sender, SendProduceReqHandler
from aiormq import Channel
from aiormq.abc import ChannelFrame
from aiosmtplib import SMTP
from litestar import Litestar, Response, get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath
from packaging.requirements import Requirement
from pamqp import commands, decode
from pamqp.base import BasicProperties
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from architecture.test_dependencies import direct
from purveyor.cli import errors
from purveyor.kit.http.server import _Connection
from purveyor.kit.http.web import ApiRequest, ApiResponse
from purveyor.kit.mail_address import parse_mail_address

RELIED_ON = [
    "aiokafka",
    "aiormq",
    "aiosmtplib",
    "email-validator",
    "faststream",
    "litestar",
    "pamqp",
    "typer",
    "uvicorn",
]


@pytest.mark.parametrize("name", RELIED_ON)
def test_library_with_private_names_has_an_upper_bound(name: str) -> None:
    bounds = {requirement.name: {s.operator for s in requirement.specifier} for requirement in direct("kafka")}

    assert bounds[name] & {"<", "=="}


def test_aiokafka_retries_without_end_until_its_sender_is_closed() -> None:
    assert "self._sender = Sender(" in inspect.getsource(AIOKafkaProducer.__init__)
    assert "self._sender_task.cancel()" in inspect.getsource(Sender.close)
    assert "self._sender._txn_manager is None and batch.expired()" in inspect.getsource(SendProduceReqHandler)


def test_a_missing_upper_bound_is_seen() -> None:
    assert not {s.operator for s in Requirement("uvicorn>=0.54").specifier} & {"<", "=="}


def test_uvicorns_protocol_calls_the_methods_that_the_server_overrides() -> None:
    ours = {name for name in vars(_Connection) if not name.startswith("_")} - {"cut"}

    assert len(ours) > 10
    assert [name for name in ours if not callable(getattr(HttpToolsProtocol, name, None))] == []
    source = inspect.getsource(HttpToolsProtocol)
    attributes = ["cycle", "parser", "url", "headers", "scope", "transport", "loop", "timeout_keep_alive_task"]
    assert [name for name in attributes if f"self.{name}" not in source] == []
    cycle = inspect.getsource(RequestResponseCycle)
    assert "self.response_complete" in cycle
    assert "self.keep_alive" in cycle
    assert "self.chunked_encoding is None" in cycle
    assert {"disconnected", "message_event", "expected_content_length"} <= set(re.findall(r"self\.(\w+)", cycle))
    assert set(re.findall(r"self\.transport\.(\w+)", cycle)) == {"write", "close", "is_closing"}
    assert callable(HttpToolsProtocol._start_asgi_task)
    assert callable(HttpToolsProtocol._unsupported_upgrade_warning)


def test_litestar_finds_the_handler_of_a_path_and_requests_can_be_created_late() -> None:
    """``kit.http.direct`` calls handlers itself; ``tests/kit/http/test_direct.py`` compares the answers."""

    @get("/things/{name:str}")
    async def thing(name: FromPath[str]) -> str:
        return name

    router = Litestar([thing], openapi_config=None).asgi_router
    _, handler, path, parameters, template = router.handle_routing(path="/things/1", method="GET")
    assert (path, parameters, template) == ("/things/1", {"name": "1"}, "/things/{name}")
    assert handler.fn is thing.fn
    with pytest.raises(NotFoundException):
        router.handle_routing(path="/other", method="GET")
    late = ApiRequest({"type": "http", "query_string": b"a=1", "headers": [], "state": {}})
    assert late.query_params["a"] == "1"
    assert [name for name in Response.__slots__ if not hasattr(ApiResponse(None), name)] == []


def test_pamqp_reads_properties_through_the_function_that_we_replace() -> None:
    """Tolerant reading hooks in at ``Basic.Properties.unmarshal`` and borrows the tables of ``pamqp.decode``."""
    assert issubclass(commands.Basic.Properties, BasicProperties)
    assert list(inspect.signature(BasicProperties.unmarshal).parameters) == ["self", "flags", "data"]
    assert {"shortstr", "table", "timestamp"} <= decode.METHODS.keys()
    assert {b"F", b"A", b"S", b"T"} <= decode.TABLE_MAPPING.keys()
    assert commands.Basic.Properties.flags.keys() == set(commands.Basic.Properties.attributes())


def test_aiormqs_channel_publishes_as_batches_are_published() -> None:
    """A batch of events is written at once, with the numbers and confirms that ``basic_publish`` gives to one."""
    source = inspect.getsource(Channel.basic_publish)
    names = ["lock", "create_future", "delivery_tag", "confirmations", "message_id_delivery_tag", "write_queue"]
    assert [name for name in names if f"self.{name}" not in source] == []
    assert "number" in source
    assert {"payload", "should_close", "drain_future"} <= set(ChannelFrame.__annotations__)
    assert callable(ChannelFrame.marshall)
    assert "self.max_content_size" in inspect.getsource(Channel.__init__)


def test_aiosmtplibs_transport_is_always_the_present_one() -> None:
    """The commands of a mail run on the transport of the library, which must be that of TLS after STARTTLS."""
    assert SMTP(hostname="127.0.0.1").transport is None
    assert "self.transport = transport" in inspect.getsource(SMTP)
    assert "self.transport = self.protocol.transport" in inspect.getsource(SMTP.starttls)


def test_typers_command_line_errors_share_a_base_with_a_message_and_an_exit_code() -> None:
    error = typer.BadParameter("wrong")

    assert isinstance(error, errors._CommandLineError)
    assert error.format_message()
    assert error.exit_code == 2


def test_email_validators_list_of_special_domains_can_be_emptied() -> None:
    assert email_validator.SPECIAL_USE_DOMAIN_NAMES == []
    assert parse_mail_address("ada@shop.test").normalized == "ada@shop.test"
