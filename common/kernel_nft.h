/* SPDX-License-Identifier: Apache-2.0 */
/* One nftables batch, tried in the network namespace of the caller.  0 or -errno. */
#pragma once

int kernel_nft_try(void);
