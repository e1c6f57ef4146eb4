/* SPDX-License-Identifier: Apache-2.0 */
/* 1 in a build with the address sanitizer, by gcc or clang. */
#pragma once

#if defined(__SANITIZE_ADDRESS__)
#define CREW_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CREW_SANITIZED 1
#endif
#endif
#ifndef CREW_SANITIZED
#define CREW_SANITIZED 0
#endif
