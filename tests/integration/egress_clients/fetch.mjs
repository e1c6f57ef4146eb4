// SPDX-License-Identifier: Apache-2.0
// Fetches the URL given and prints status and body.
const r = await fetch(process.argv[2]);
process.stdout.write(`${r.status} ${await r.text()}`);
