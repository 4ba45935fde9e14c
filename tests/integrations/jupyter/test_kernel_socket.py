"""The kernel's socket behind both steps: who has them both finds Jupyter as it is."""

from __future__ import annotations

import asyncio
import json

import pytest
from jupyter_server.services.kernels.handlers import _kernel_id_regex
from jupyter_server.services.kernels.websocket import KernelWebsocketHandler
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from tests.integrations.jupyter.server import (
    AS_JUPYTER,
    V1,
    channels,
    execute_request,
    kind,
    make_jwt,
    parse,
    to_v1,
)
from tests.support import until
from tornado_wsauth.testing.client import CLOSE, PING, RawClient, jwt_message

# Output of every kind, a question to another channel, an error and a comm.
CELL = """
import sys
from comm import create_comm
from IPython.display import display, HTML
print("one"); print("two", file=sys.stderr)
display(HTML("<b>three</b>"))
create_comm("four", data={"five": 5}, buffers=[b"\\0six"])
7
"""


@pytest.mark.gen_test
@pytest.mark.parametrize("subprotocols", [None, [V1], ["another", V1]])
async def test_a_client_with_both_steps_executes_code_and_gets_its_result(notebook, kernel_id, subprotocols):
    alice = await notebook(kernel_id, subprotocols=subprotocols)
    assert alice.subprotocol == (V1 if subprotocols else None)
    assert await alice.run("1 + 1") == "2"


@pytest.mark.gen_test
async def test_a_client_that_offers_another_subprotocol_alone_speaks_the_one_of_json(notebook, kernel_id):
    alice = await notebook(kernel_id, subprotocols=["another"])
    assert alice.subprotocol is None
    assert await alice.run("1 + 1") == "2"


@pytest.mark.gen_test
async def test_jupyters_preferred_protocol_is_still_jupyters_to_configure(server, notebook, kernel_id):
    connection_class = server.app.kernel_websocket_connection_class
    server.app.config[connection_class.__name__].kernel_ws_protocol = ""  # the one of JSON, says Jupyter's help
    try:
        alice = await notebook(kernel_id, subprotocols=[V1])
    finally:
        del server.app.config[connection_class.__name__]
    assert alice.subprotocol is None
    assert await alice.run("1 + 1") == "2"


@pytest.mark.gen_test
@pytest.mark.parametrize("protocol", [None, V1])
async def test_a_cell_is_answered_with_what_jupyters_own_handler_answers(server, notebook, kernel_id, protocol):
    own = rf"/own/kernels/{_kernel_id_regex}/channels"
    server.app.web_app.add_handlers(".*$", [(own, KernelWebsocketHandler)])
    url = f"ws://127.0.0.1:{server.port}/own/kernels/{kernel_id}/channels?session_id=own"
    bare = await websocket_connect(HTTPRequest(url, headers=AS_JUPYTER), subprotocols=[protocol] if protocol else None)
    request = execute_request(CELL)
    await bare.write_message(to_v1(request) if protocol else json.dumps(request), binary=bool(protocol))
    theirs = []
    while not {"execute_reply", "idle"} <= {kind(message) for message in theirs}:
        message = parse(await bare.read_message(), protocol)
        if message["parent_header"].get("msg_id") == request["header"]["msg_id"]:
            theirs.append(message)
    bare.close()

    alice = await notebook(kernel_id, subprotocols=[protocol] if protocol else None)
    ours = await alice.replies(await alice.execute(CELL))

    def said(messages, channel):
        return [(kind(message), sorted(message["content"])) for message in messages if message["channel"] == channel]

    for channel in ("iopub", "shell"):
        assert said(ours, channel) == said(theirs, channel)
    assert len(ours) == len(theirs) > 8


@pytest.mark.gen_test
async def test_what_a_client_sends_behind_its_jwt_is_executed_once_the_kernel_is_there(server):
    kernel_id = await server.start_kernel()  # it takes a second or two, and nobody waits for it here
    client = await RawClient.connect(server.port)
    await client.upgrade(f"{channels(kernel_id)}&token={await server.issue()}")
    client.send_text(jwt_message(make_jwt()))
    for number in range(3):
        client.send_text(json.dumps(execute_request(f"[{number}]")))
    results = []
    assert (await client.read_json())["type"] == "auth_ok"
    while len(results) < 3:
        message = await client.read_json()
        if kind(message) == "execute_result":
            results.append(message["content"]["data"]["text/plain"])
    assert results == ["[0]", "[1]", "[2]"]
    await client.close()


@pytest.mark.gen_test
async def test_large_output_reaches_a_client_that_is_slow_to_read_it(notebook, kernel_id):
    alice = await notebook(kernel_id)
    size = 5 * 2**20
    cell = f"""
from IPython.display import display
for _ in range(4):
    display({{"text/plain": "x" * {size}}}, raw=True)
"""
    asked = await alice.execute(cell)
    displayed = [reply for reply in await alice.replies(asked) if kind(reply) == "display_data"]
    assert [len(reply["content"]["data"]["text/plain"]) for reply in displayed] == [size] * 4


@pytest.mark.gen_test
async def test_jupyter_pings_its_client_from_open_on_and_not_before(server, kernel_id):
    server.app.web_app.settings["ws_ping_interval"] = 20  # milliseconds
    try:
        client = await RawClient.connect(server.port)
        response = await client.upgrade(f"{channels(kernel_id)}&token={await server.issue()}")
        assert response.status == 101
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):  # ten times the interval
                await client.read_frame()
        client.send_text(jwt_message(make_jwt()))
        pings = 0
        while pings < 3:
            pings += (await client.read_frame())[0] == PING
    finally:
        del server.app.web_app.settings["ws_ping_interval"]
    await client.close()


@pytest.mark.gen_test
async def test_jupyter_ends_a_client_that_answers_no_ping(server, kernel_id):
    server.app.web_app.settings.update(ws_ping_interval=20, ws_ping_timeout=60)
    try:
        client = await RawClient.connect(server.port)
        await client.upgrade(f"{channels(kernel_id)}&token={await server.issue()}")
        client.send_text(jwt_message(make_jwt()))
        while (await client.read_frame())[0] != CLOSE:
            pass
    finally:
        del server.app.web_app.settings["ws_ping_interval"], server.app.web_app.settings["ws_ping_timeout"]
    await client.close()
    await until(lambda: server.traces(kernel_id)["counted"] == 0)


@pytest.mark.gen_test
async def test_nobody_is_warned_of_missing_pings_since_jupyter_has_its_own(server, notebook, kernel_id, caplog):
    await notebook(kernel_id)
    assert not server.auth._warned_of_pings
    assert [record for record in caplog.records if "pings are off" in record.getMessage()] == []
