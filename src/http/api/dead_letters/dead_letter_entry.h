/* An entry of the stream of dead letters: as JSON, and as the message that it was. Pure; any
 * thread.
 */
#ifndef MQFLEET_API_DEAD_LETTER_ENTRY_H
#define MQFLEET_API_DEAD_LETTER_ENTRY_H

#include <jansson.h>
#include <stddef.h>
#include "base/err.h"
#include "message/message.h"
#include "store/dead_letters.h"

/* The document of the entry at index. NULL: out of memory. */
json_t *dead_letter_entry_json(const struct dead_letters_page *page, size_t index);

/* The value of a field; "" if the entry does not have it. Borrowed from the page. */
const char *dead_letter_entry_text(const struct dead_letters_page *page, size_t index,
                                   const char *name);

/* A new message with the content of the original, received now. ERR_ARGUMENT: the entry is not a
 * dead letter. */
enum err dead_letter_entry_message(const struct dead_letters_page *page, size_t index,
                                   struct message **out) MUST_CHECK;

#endif
