// SPDX-License-Identifier: Apache-2.0
// The official TypeScript MCP client, once on the socket itself and once through `crew-call mcp` as its stdio server.
import net from "node:net";
import readline from "node:readline";

const sdk = process.argv[2] + "/@modelcontextprotocol/sdk/dist/esm/";
const { Client } = await import(sdk + "client/index.js");
const { StdioClientTransport } = await import(sdk + "client/stdio.js");

class SocketTransport {
  constructor(path) {
    this.path = path;
  }
  async start() {
    this.socket = net.connect(this.path);
    await new Promise((ready) => this.socket.once("connect", ready));
    readline.createInterface({ input: this.socket }).on("line", (line) => this.onmessage?.(JSON.parse(line)));
    this.socket.on("close", () => this.onclose?.());
  }
  async send(message) {
    this.socket.write(JSON.stringify(message) + "\n");
  }
  async close() {
    this.socket.end();
  }
}

async function use(transport) {
  const client = new Client({ name: "test", version: "1" });
  await client.connect(transport);
  const out = { server: client.getServerVersion().name };
  await client.ping();
  out.tools = (await client.listTools()).tools;
  out.add = await client.callTool({ name: "add_tool", arguments: { a: 2, b: 3 } });
  out.failing = await client.callTool({ name: "fail_tool", arguments: {} });
  try {
    await client.callTool({ name: "wire_transfer", arguments: {} });
  } catch (e) {
    out.denied = { code: e.code, message: e.message, data: e.data };
  }
  await client.close();
  return out;
}

const out = {
  socket: await use(new SocketTransport(process.env.CREW_SOCKET)),
  stdio: await use(new StdioClientTransport({ command: "crew-call", args: ["mcp"] })),
};
console.log(JSON.stringify(out));
process.exit(0);
