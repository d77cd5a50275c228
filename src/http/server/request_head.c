/* Passes the fields of a request head to framing.c, and finds errors that libmicrohttpd before 1.0
 * does not report. No state; MHD threads. */
#include "request_head.h"

#include <stdbool.h>
#include <string.h>
#include "http/server/framing.h"

struct head {
    struct http_framing framing;
    const char *end;   /* of the last checked line, where its CR was */
    const char *fault; /* of the lines */
};

#if MHD_VERSION < 0x01000000
/* libmicrohttpd before 1.0 appends a folded line to the *name* of the previous field, ends a line
 * at a bare LF, and ends the head at a field without a name. The positions of the texts show all
 * three: name and value stay in the receive buffer, where NUL replaces the colon and the CR and LF.
 * Only a name with an appended line is moved elsewhere. Later versions refuse such requests. */
static const char *request_head_line_fault(struct head *head, const char *name, const char *value) {
    const char *at = name + strlen(name) + 1;
    while (at < value && (*at == ' ' || *at == '\t')) {
        at++;
    }
    if (at != value) {
        return "a header field is folded over several lines";
    }
    head->end = value + strlen(value);
    return head->end[1] == '\0' ? NULL : "a line ends without CR, or contains NUL";
}

static const char *request_head_first_line_fault(struct head *head, const char *version) {
    head->end = version + strlen(version);
    return head->end[1] == '\0' ? NULL : "a line ends without CR, or contains NUL";
}

static const char *request_head_last_line_fault(const struct head *head) {
    return head->end[2] == '\0' && head->end[3] == '\0'
               ? NULL
               : "a header field has no name, or the last line ends without CR";
}
#else
static const char *request_head_line_fault(struct head *head, const char *name, const char *value) {
    (void)head;
    (void)name;
    (void)value;
    return NULL;
}

static const char *request_head_first_line_fault(struct head *head, const char *version) {
    (void)head;
    (void)version;
    return NULL;
}

static const char *request_head_last_line_fault(const struct head *head) {
    (void)head;
    return NULL;
}
#endif

static enum MHD_Result request_head_add_field(void *context, enum MHD_ValueKind kind,
                                              const char *name, const char *value) {
    struct head *head = context;
    (void)kind;
    value = value ? value : "";
    if (!head->fault) {
        head->fault = request_head_line_fault(head, name, value);
    }
    http_framing_field(&head->framing, name, value);
    return MHD_YES;
}

const char *request_head_fault(struct MHD_Connection *connection, const char *target,
                               const char *version) {
    struct head head = {.end = NULL};
    head.fault = request_head_first_line_fault(&head, version);
    MHD_get_connection_values(connection, MHD_HEADER_KIND, request_head_add_field, &head);
    if (!head.fault) {
        head.fault = request_head_last_line_fault(&head);
    }
    return head.fault ? head.fault : http_framing_fault(&head.framing, target, version);
}
