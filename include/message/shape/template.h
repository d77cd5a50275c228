/* Text with parts of a message in braces: "devices.{label.site|unknown}.{topic.2}". "{{" and
 * "}}" are literal braces. "|" precedes the default for a missing value; without a default, the
 * message cannot be written. */
#ifndef MQFLEET_SHAPE_TEMPLATE_H
#define MQFLEET_SHAPE_TEMPLATE_H

#include <stdbool.h>
#include "base/buffer.h"
#include "base/err.h"
#include "message/shape/message_view.h"

#define TEMPLATE_PIECES_MAX 64

struct template;

/* ERR_ARGUMENT: fault (MESSAGE_FAULT_LEN) says what is wrong and where. Pure. */
enum err template_compile(struct template **out, const char *text, char *fault) MUST_CHECK;
void template_destroy(struct template *template); /* NULL is legal */
/* Its text, if it has no part of a message; NULL otherwise. */
const char *template_constant(const struct template *template);

/* Appends. ERR_NOT_FOUND: `missing` (MESSAGE_FAULT_LEN) names the value that the message does not
 * have; the appended text must be discarded. ERR_MEMORY. */
enum err template_render(const struct template *template, struct message_view *view,
                         struct buffer *out, char *missing) MUST_CHECK;

#endif
