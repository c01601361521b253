"""What uvicorn itself costs: an application that reads the body to its end and answers fixed bytes.

No ASGI application under uvicorn can be faster, whatever it serves. The bytes are a real answer of the model
under test, so that as much is sent and received as by the others.
"""

import os
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


def create_app() -> Application:
    """Answer every request with the content of the file that BENCHMARK_ANSWER_FILE names."""
    answer = Path(os.environ["BENCHMARK_ANSWER_FILE"]).read_bytes()
    start = {
        "type": "http.response.start",
        "status": 200,
        "headers": [(b"content-length", str(len(answer)).encode()), (b"content-type", b"application/json")],
    }
    body = {"type": "http.response.body", "body": answer}

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        more = True
        while more:
            message = await receive()
            more = message.get("more_body", False)
        await send(start)
        await send(body)

    return app
