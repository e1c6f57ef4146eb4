#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A shell agent: crew-call and nothing else.  Prints one JSON object with what it got.
cat >task.json

# get NAME COMMAND...: its stdout and exit status as members of the result.
get() {
  name=$1
  shift
  out=$("$@" 2>"$TMPDIR/err")
  status=$?
  [ -n "$out" ] || out=null
  printf '"%s":{"exit":%d,"out":%s,"errors":%d},' "$name" "$status" "$out" "$(wc -l <"$TMPDIR/err")"
}
text() { printf '%s' "$1"; }
add() { text '{"a": 2, "b": 0.50}' | crew-call tool add_tool; }
bad() { text '{"a": "two"}' | crew-call tool add_tool; }
broken() { text '{"a": ' | crew-call tool add_tool; }
denied() { text '{}' | crew-call tool wire_transfer; }
failing() { text '{}' | crew-call tool fail_tool; }
empty() { crew-call tool echo_tool </dev/null; }
send() { text '"hi"' | crew-call send oracle; }
send_denied() { text '"hi"' | crew-call send stranger; }
ask() { text '{"n": 20}' | crew-call ask oracle --timeout 20s; }
receive() { crew-call receive --timeout 50ms; }
answer() { text 1 | crew-call answer 4711; }

printf '{'
get tools crew-call tools
get add add
get bad bad
get broken broken
get denied denied
get failing failing
get empty empty
get send send
get send_denied send_denied
get ask ask
get receive receive
get answer answer
get usage crew-call frobnicate
printf '"socket":"%s","task":"%s","agent":"%s"}' "$CREW_SOCKET" "$CREW_TASK" "$CREW_AGENT"
