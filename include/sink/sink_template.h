/* Templates in the settings of a sink, with errors that name the field. */
#ifndef MQFLEET_SINK_SINK_TEMPLATE_H
#define MQFLEET_SINK_SINK_TEMPLATE_H

#include "message/shape/template.h"
#include "sink/sink_type.h"

/* ERR_ARGUMENT: fault (SINK_FAULT_LEN) names the field. ERR_MEMORY. */
enum err sink_template_compile(struct template **out, const char *field, const char *text,
                               char *fault) MUST_CHECK;

/* The template of one field. For a type that renders it once per message. Zero at first. */
struct sink_template {
    struct template *template;
    const char *field, *node; /* borrowed */
};

/* As sink_template_compile. */
enum err sink_template_init(struct sink_template *template,
                            const struct sink_environment *environment, const json_t *settings,
                            const char *field, char *fault) MUST_CHECK;
void sink_template_fini(struct sink_template *template); /* zero is legal */
/* Appends. ERR_NOT_FOUND: the message must be rejected; reason (SINK_REASON_LEN) names the field
 * and the value that the message does not have. ERR_MEMORY. After an error, the appended text must
 * be discarded. */
enum err sink_template_render(const struct sink_template *template, const struct message *message,
                              struct buffer *out, char *reason) MUST_CHECK;

#endif
