/* Owns the table of status codes. docs/sinks.md shows it. Pure. */
#include "http_outcome.h"

#define QUOTED_MAX 100

static const struct {
    long first, last;
    enum http_outcome outcome;
    const char *advice;
} statuses[] = {
    {200, 299, HTTP_ACCEPTED, ""},
    {300, 399, HTTP_FAILED, "redirects are not followed: put the new address into url"},
    {400, 400, HTTP_REFUSED, ""},
    {401, 401, HTTP_FAILED, "check bearer_token, username and password, or auth_value"},
    {403, 403, HTTP_FAILED, "check the rights of these credentials"},
    {404, 404, HTTP_FAILED, "check url"},
    {405, 405, HTTP_FAILED, "check method and url"},
    {413, 413, HTTP_REFUSED, ""},
    {415, 415, HTTP_FAILED, "check format"},
    {422, 422, HTTP_REFUSED, ""},
    {500, 500, HTTP_DOUBTFUL, ""},
};

#define STATUS_COUNT (sizeof statuses / sizeof statuses[0])

/* STATUS_COUNT: another one. */
static size_t http_outcome_row(long status) {
    size_t row = 0;
    while (row < STATUS_COUNT && (status < statuses[row].first || status > statuses[row].last)) {
        row++;
    }
    return row;
}

enum http_outcome http_outcome_of_status(long status) {
    size_t row = http_outcome_row(status);
    return row < STATUS_COUNT ? statuses[row].outcome : HTTP_FAILED;
}

const char *http_outcome_advice(long status) {
    size_t row = http_outcome_row(status);
    return row < STATUS_COUNT ? statuses[row].advice : "";
}

void http_outcome_quote(const char *text, size_t len, char out[HTTP_TEXT_LEN]) {
    size_t count = 0;
    for (size_t i = 0; i < len && count < QUOTED_MAX; i++) {
        bool printable = text[i] > ' ' && text[i] < 0x7f;
        if (printable) {
            out[count++] = text[i];
        } else if (count > 0 && out[count - 1] != ' ') {
            out[count++] = ' ';
        }
    }
    out[count] = '\0';
}
