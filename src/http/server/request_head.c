/* Owns nothing: hands the fields of a request's head to framing.c, and judges what libmicrohttpd
 * before 1.0 lets through. MHD threads. */
#include "request_head.h"

#include <stdbool.h>
#include <string.h>
#include "http/server/framing.h"

struct head {
    struct http_framing framing;
    const char *end;   /* of the line that was looked at last, where its CR was */
    const char *fault; /* of the lines */
};

#if MHD_VERSION < 0x01000000
/* Before 1.0 libmicrohttpd adds a folded line to the *name* of the field before it, ends a line at
 * a bare LF, and the head at a field without a name. All can be seen by where it left the texts:
 * name and value stay in the buffer they were received in, the colon and the CR and LF of the
 * line's end overwritten by NUL; only a name that was added to is moved out of it. Later versions
 * refuse all of that. */
static const char *request_head_line_fault(struct head *head, const char *name, const char *value) {
    const char *at = name + strlen(name) + 1;
    while (at < value && (*at == ' ' || *at == '\t')) {
        at++;
    }
    if (at != value) {
        return "a header field is folded over lines";
    }
    head->end = value + strlen(value);
    return head->end[1] == '\0' ? NULL : "a line ends without CR, or has a NUL";
}

static const char *request_head_first_line_fault(struct head *head, const char *version) {
    head->end = version + strlen(version);
    return head->end[1] == '\0' ? NULL : "a line ends without CR, or has a NUL";
}

static const char *request_head_last_line_fault(const struct head *head) {
    return head->end[2] == '\0' && head->end[3] == '\0'
               ? NULL
               : "a header field has no name, or the last line no CR";
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
