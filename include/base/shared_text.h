/* Long texts that many owners have alike, such as the certificate of an authority in the
 * configurations of ten thousand clients. Equal texts are stored once, as long as somebody holds
 * them. Any thread. */
#ifndef MQFLEET_BASE_SHARED_TEXT_H
#define MQFLEET_BASE_SHARED_TEXT_H

#include <stddef.h>

/* The shared copy of `text`; must not be changed. NULL: out of memory. shared_text_release. */
char *shared_text_hold(const char *text);
void shared_text_release(char *shared); /* NULL is legal */
/* How many different texts are held, for tests. */
size_t shared_text_count(void);

#endif
