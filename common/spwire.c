/* SPDX-License-Identifier: Apache-2.0 */
#include "spwire.h"
