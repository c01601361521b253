"""The private places of uvicorn that the protocol overrides must exist, or they would silently never be called."""

import inspect

import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle


@pytest.mark.parametrize(
    "name",
    [
        "_start_asgi_task",
        "on_header",
        "on_headers_complete",
        "on_response_complete",
        "send_400_response",
        "data_received",
    ],
)
def test_overridden_methods_exist(name: str) -> None:
    assert callable(getattr(HttpToolsProtocol, name))


def test_the_target_is_read_where_it_was_mended() -> None:
    assert "parse_url(self.url)" in inspect.getsource(HttpToolsProtocol.on_headers_complete)


def test_cycles_write_through_their_transport() -> None:
    assert "self.transport.write" in inspect.getsource(RequestResponseCycle.send)
