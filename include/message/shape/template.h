/* Text with parts of a message in braces: "devices.{label.site|unknown}.{topic.2}". "{{" and
 * "}}" are literal braces. "|" precedes the default for a missing value, which is written as it is;
 * without a default, the message cannot be written.
 *
 *   {payload}          the value as it is
 *   {payload:json}     a JSON value: a string with its quotes, or what is at a JSON pointer. Text
 *                      that is not UTF-8 is missing
 *   {payload:base64}   base64, without quotes */
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

/* Whether the template makes JSON, and nothing in a message can change that. ERR_ARGUMENT: fault
 * (MESSAGE_FAULT_LEN) says what is wrong. ERR_MEMORY. object: it must be a JSON object. */
enum err template_check_json(const struct template *template, bool object, char *fault) MUST_CHECK;

/* Appends. ERR_NOT_FOUND: `missing` (MESSAGE_FAULT_LEN) names the value that the message does not
 * have; the appended text must be discarded. ERR_MEMORY. */
enum err template_render(const struct template *template, struct message_view *view,
                         struct buffer *out, char *missing) MUST_CHECK;

#endif
