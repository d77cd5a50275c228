/* The SHA-1 by which Redis identifies scripts. Pure; any thread. */
#ifndef MQFLEET_NET_SHA1_H
#define MQFLEET_NET_SHA1_H

#include <stddef.h>

#define SHA1_HEX_LEN 41 /* 40 hexadecimal digits and the NUL */

void sha1_hex(const void *data, size_t len, char out[SHA1_HEX_LEN]);

#endif
