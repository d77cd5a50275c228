/* The signature of a request: hexadecimal HMAC-SHA256 of "<timestamp>.<body>". Pure. */
#ifndef MQFLEET_SINK_HTTP_SIGNATURE_H
#define MQFLEET_SINK_HTTP_SIGNATURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_SIGNATURE_LEN 65 /* 64 digits and the NUL */

/* False: out of memory. */
bool http_signature_make(const char *secret, int64_t timestamp_s, const char *body, size_t body_len,
                         char out[HTTP_SIGNATURE_LEN]);

#endif
