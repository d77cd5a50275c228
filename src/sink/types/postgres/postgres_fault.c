/* Owns the data table: the errors by which PostgreSQL refuses a row for its content. */
#include "postgres_fault.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* By SQLSTATE or its beginning, first match. Errors without a row are retried. */
static const struct {
    const char *sqlstate;
    const char *function; /* of the server; NULL: any */
    enum postgres_outcome outcome;
} faults[] = {
    {"2200H", NULL, POSTGRES_FAILED},                /* a sequence has no more numbers */
    {"22", NULL, POSTGRES_BAD_ROW},                  /* data exception */
    {"23514", "ExecFindPartition", POSTGRES_FAILED}, /* no partition, which can be added */
    {"23", NULL, POSTGRES_BAD_ROW},                  /* constraint violation */
    {"54", NULL, POSTGRES_BAD_ROW}, /* a limit: too long for an index, JSON nested too deep */
};

static const char *fault_field(const PGresult *result, int code) {
    const char *text = PQresultErrorField(result, code);
    return text ? text : "";
}

static enum postgres_outcome fault_outcome(const PGresult *result) {
    const char *sqlstate = fault_field(result, PG_DIAG_SQLSTATE);
    const char *function = fault_field(result, PG_DIAG_SOURCE_FUNCTION);
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        if (strncmp(sqlstate, faults[i].sqlstate, strlen(faults[i].sqlstate)) == 0 &&
            (!faults[i].function || strcmp(function, faults[i].function) == 0)) {
            return faults[i].outcome;
        }
    }
    return POSTGRES_FAILED;
}

/* ---- text ------------------------------------------------------------------------------------ */

/* The quotation marks of the server's languages. */
static size_t fault_quote_len(const char *at) {
    static const char *const quotes[] = {
        "\"",           "\xc2\xab",     "\xc2\xbb",     "\xe2\x80\x98", "\xe2\x80\x99",
        "\xe2\x80\x9c", "\xe2\x80\x9d", "\xe2\x80\x9e", "\xe3\x80\x8c", "\xe3\x80\x8d"};
    for (size_t i = 0; i < sizeof quotes / sizeof quotes[0]; i++) {
        if (strncmp(at, quotes[i], strlen(quotes[i])) == 0) {
            return strlen(quotes[i]);
        }
    }
    return 0;
}

/* From the first quotation mark to the last one there are values, which may have such marks
 * themselves. *end: behind the last one. NULL: there are none. */
static const char *fault_find_quoted(const char *text, const char **end) {
    const char *begin = NULL;
    for (const char *at = text; *at; at++) {
        size_t len = fault_quote_len(at);
        if (len > 0) {
            begin = begin ? begin : at;
            *end = at + len;
        }
    }
    return begin;
}

void postgres_fault_describe(char out[POSTGRES_FAULT_LEN], const PGresult *result) {
    const char *text = fault_field(result, PG_DIAG_MESSAGE_PRIMARY);
    const char *sqlstate = fault_field(result, PG_DIAG_SQLSTATE);
    const char *end = NULL;
    /* Only data exceptions quote values; the names that others quote are needed. */
    bool quotes_values = strncmp(sqlstate, "22", 2) == 0 || strncmp(sqlstate, "0", 1) == 0;
    const char *quoted = quotes_values ? fault_find_quoted(text, &end) : NULL;
    int len = quoted ? (int)(quoted - text) : (int)strlen(text);
    snprintf(out, POSTGRES_FAULT_LEN, "%.*s%s%.40s (%.5s)", len < 130 ? len : 130, text,
             quoted ? "..." : "", quoted ? end : "", sqlstate);
}

/* With several hosts libpq has a line for each, with advice on lines that begin with a tab. */
void postgres_fault_read_connection(struct postgres_fault *fault, const PGconn *connection) {
    const char *last = PQerrorMessage(connection);
    for (const char *at = strchr(last, '\n'); at; at = strchr(at + 1, '\n')) {
        last = at[1] != '\0' && at[1] != '\t' ? at + 1 : last;
    }
    *fault = (struct postgres_fault){0};
    snprintf(fault->text, sizeof fault->text, "%.*s", (int)strcspn(last, "\n"), last);
}

/* ---- places ---------------------------------------------------------------------------------- */

/* The first number behind a mark, on the same line; the words between are translated. */
static size_t fault_number_behind(const char *text, char mark) {
    const char *at = strchr(text, mark);
    at = at ? at + strcspn(at, "0123456789\n") : "";
    return (size_t)strtoul(at, NULL, 10);
}

enum postgres_outcome postgres_fault_read(struct postgres_fault *fault, const PGresult *result) {
    const char *context = fault_field(result, PG_DIAG_CONTEXT);
    const char *copy = strstr(context, "COPY "); /* "COPY messages, line 3, column payload: ..." */
    postgres_fault_describe(fault->text, result);
    fault->line = copy ? fault_number_behind(copy, ',') : 0;
    fault->parameter = fault_number_behind(context, '$'); /* "unnamed portal parameter $3" */
    return fault_outcome(result);
}
