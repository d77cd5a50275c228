/* Owns the table of ClickHouse's error codes. Pure. */
#include "http_clickhouse.h"

#include <stdio.h>

/* Those that a row of the body causes. */
static const int data_codes[] = {
    6,   /* CANNOT_PARSE_TEXT */
    25,  /* CANNOT_PARSE_ESCAPE_SEQUENCE */
    26,  /* CANNOT_PARSE_QUOTED_STRING */
    27,  /* CANNOT_PARSE_INPUT_ASSERTION_FAILED */
    38,  /* CANNOT_PARSE_DATE */
    41,  /* CANNOT_PARSE_DATETIME */
    53,  /* TYPE_MISMATCH */
    69,  /* ARGUMENT_OUT_OF_BOUND */
    70,  /* CANNOT_CONVERT_TYPE */
    72,  /* CANNOT_PARSE_NUMBER */
    117, /* INCORRECT_DATA */
    130, /* CANNOT_READ_ARRAY_FROM_TEXT */
    131, /* TOO_LARGE_STRING_SIZE */
    321, /* VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE */
    349, /* CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN */
    376, /* CANNOT_PARSE_UUID */
    407, /* DECIMAL_OVERFLOW */
    441, /* CANNOT_PARSE_DOMAIN_VALUE_FROM_STRING */
    467, /* CANNOT_PARSE_BOOL */
    469, /* VIOLATED_CONSTRAINT */
};

enum http_outcome http_clickhouse_judge(const struct http_response *response) {
    int code = 0;
    if (sscanf(response->body, "Code: %9d", &code) != 1) {
        return http_outcome_of_status(response->status);
    }
    for (size_t i = 0; i < sizeof data_codes / sizeof data_codes[0]; i++) {
        if (data_codes[i] == code) {
            return HTTP_REFUSED;
        }
    }
    return HTTP_FAILED;
}
