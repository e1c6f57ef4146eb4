# For programs that keep generated code in shared anonymous memory (dual-mapped JITs: some JVM collectors, wasm
# engines, LuaJIT and .NET with W^X).  Plain JITs that use mmap and mprotect, node among them, need only "default".
#
# Price: a memfd may be executed, so the agent can run a program that it downloaded or wrote although its own trees
# are noexec.  It still runs inside the same walls.
allow memfd_create
