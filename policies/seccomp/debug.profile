# For roles that debug or trace the programs they start themselves (gdb, strace, rr, py-spy).
#
# Landlock keeps a traced process to the tracer's own domain or a narrower one, so neither the worker (pid 1) nor a
# tool's process can be attached to.  Price: the ptrace code of the kernel is within the agent's reach.
allow ptrace
allow process_vm_readv
allow process_vm_writev
allow kcmp
# Address space randomisation off, as debuggers ask.
allow personality
