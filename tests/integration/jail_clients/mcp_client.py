# SPDX-License-Identifier: Apache-2.0
"""The official Python MCP client, once on the socket itself and once through `crew-call mcp` as its stdio server."""

import json
import os
import sys
from contextlib import asynccontextmanager

sys.path.insert(0, sys.argv[1])

import anyio
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.shared.message import SessionMessage
from mcp.types import JSONRPCMessage
from pydantic import TypeAdapter

adapter = TypeAdapter(JSONRPCMessage)


@asynccontextmanager
async def socket_client(path):
    """A transport of 20 lines: one JSON message a line."""
    to_session, incoming = anyio.create_memory_object_stream(0)
    outgoing, from_session = anyio.create_memory_object_stream(0)

    async def reader(stream):
        rest = b""
        try:
            while True:
                rest += await stream.receive()
                *whole, rest = rest.split(b"\n")
                for line in whole:
                    await to_session.send(SessionMessage(adapter.validate_json(line)))
        except anyio.EndOfStream:
            pass

    async def writer(stream):
        async for message in from_session:
            text = message.message.model_dump_json(by_alias=True, exclude_none=True)
            await stream.send(text.encode() + b"\n")

    async with await anyio.connect_unix(path) as stream, anyio.create_task_group() as group:
        group.start_soon(reader, stream)
        group.start_soon(writer, stream)
        yield incoming, outgoing
        group.cancel_scope.cancel()


def plain(result):
    return json.loads(result.model_dump_json(by_alias=True, exclude_none=True))


async def use(transport):
    async with transport as (read, write), ClientSession(read, write) as session:
        hello = await session.initialize()
        out = {"server": plain(hello)["serverInfo"]["name"], "version": plain(hello)["protocolVersion"]}
        await session.send_ping()
        out["tools"] = [plain(t) for t in (await session.list_tools()).tools]
        out["add"] = plain(await session.call_tool("add_tool", {"a": 2, "b": 3}))
        out["failing"] = plain(await session.call_tool("fail_tool", {}))
        try:
            await session.call_tool("wire_transfer", {})
        except Exception as e:  # McpError or MCPError, by version
            out["denied"] = plain(e.error)
        return out


async def main():
    task = json.load(sys.stdin)
    json.dump({
        "task": task["task"],
        "socket": await use(socket_client(os.environ["CREW_SOCKET"])),
        "stdio": await use(stdio_client(StdioServerParameters(command="crew-call", args=["mcp"]))),
    }, sys.stdout)


anyio.run(main)
