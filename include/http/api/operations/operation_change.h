/* What becomes of one client of an operation. The thread of the operations. */
#ifndef MQFLEET_OPERATIONS_OPERATION_CHANGE_H
#define MQFLEET_OPERATIONS_OPERATION_CHANGE_H

#include "cluster/operations/operations.h"
#include "http/api/api.h"

/* An operation_prepare; context: the struct http_api. A client outside the scope of the operation
 * counts as unknown. */
enum err operation_change_prepare(void *context, const struct store_operation *operation,
                                  enum operation_action action, const json_t *patch,
                                  const struct store_client *row, struct operation_change *out);

#endif
