# The allow-list as it is (worker/sandbox/filter_table.c); adds nothing.
# Enough for python, node, a JVM, shells, git, curl and compilers.
