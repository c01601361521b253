"""What becomes of a request whose client does not wait for it."""

import asyncio
import gc
from contextlib import suppress
from typing import Any

import pytest
from starlette.requests import Request

from fastserve.errors import InvalidRequest
from fastserve.frontends.http.answers import unless_disconnected


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_a_request_that_fails_as_its_client_leaves_is_nobodys_error(steps: int) -> None:
    untold: list[dict[str, Any]] = []

    async def never() -> Any:
        await asyncio.Event().wait()

    async def fails() -> None:
        for _ in range(steps):
            await asyncio.sleep(0)
        raise InvalidRequest("no")

    async def leave_after(turns: int) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: untold.append(context))
        task = asyncio.ensure_future(unless_disconnected(Request({"type": "http"}, never), fails()))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError, InvalidRequest):
            await task
        del task
        gc.collect()

    for turns in range(1, 8):
        asyncio.run(leave_after(turns))
    assert untold == []
