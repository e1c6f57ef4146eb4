// SPDX-License-Identifier: Apache-2.0
// A node agent without packages: JSON-RPC lines on $CREW_SOCKET.
import net from "node:net";
import readline from "node:readline";

const socket = net.connect(process.env.CREW_SOCKET);
const lines = readline.createInterface({ input: socket })[Symbol.asyncIterator]();
let counter = 0;

async function call(method, params) {
  socket.write(JSON.stringify({ jsonrpc: "2.0", id: ++counter, method, params }) + "\n");
  return JSON.parse((await lines.next()).value);
}

const out = {
  tools: (await call("tools/list")).result.tools.map((t) => t.name),
  add: (await call("tools/call", { name: "add_tool", arguments: { a: 2, b: 3 } })).result,
  denied: (await call("tools/call", { name: "wire_transfer", arguments: {} })).error,
  ask: (await call("crew/ask", { target: "oracle", payload: { n: 20 } })).result,
};
socket.end();
console.log(JSON.stringify(out));
process.exit(0);
