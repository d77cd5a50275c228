/* Private to transaction.c: receives a request. The head decides whether it is handled. The body is
 * kept or discarded; kept bytes count towards a limit for all requests. MHD threads. */
#ifndef MQFLEET_SERVER_REQUEST_READER_H
#define MQFLEET_SERVER_REQUEST_READER_H

#include <stdbool.h>
#include "transaction_internal.h"

enum request_reader_result {
    REQUEST_READER_READ_ON, /* read the body first, even if the response has a status already */
    REQUEST_READER_REFUSED, /* answer without reading the body */
    REQUEST_READER_CLOSE    /* close the connection without an answer */
};

/* The head is complete. A refused request is answered after its body is read and discarded, unless
 * the caller waits for "100 Continue" or the body is too long to be read. */
enum request_reader_result request_reader_head(struct transaction *transaction, const char *method,
                                               const char *version);
/* A part of the body. False: close the connection. */
bool request_reader_body(struct transaction *transaction, const char *data, size_t len);

/* Frees the body. Any thread. */
void request_reader_drop_body(struct transaction *transaction);
/* Stops counting the body towards the limit for all requests. Any thread. */
void request_reader_uncount_body(struct transaction *transaction);

#endif
