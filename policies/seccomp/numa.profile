# For numeric programs that place their memory on nodes of a large machine (numactl, some BLAS builds, JVM UseNUMA).
# Without it those calls fail with ENOSYS and the programs run with the kernel's own placement.
allow mbind
allow set_mempolicy
