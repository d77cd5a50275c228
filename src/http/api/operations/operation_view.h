/* The document of an operation. Pure functions; any thread. */
#ifndef MQFLEET_OPERATIONS_OPERATION_VIEW_H
#define MQFLEET_OPERATIONS_OPERATION_VIEW_H

#include <jansson.h>
#include "store/operations.h"

/* NULL: out of memory. */
json_t *operation_view(const struct store_operation *operation);

#endif
