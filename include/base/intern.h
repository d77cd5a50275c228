/* Stores frequently repeated texts, such as the reasons of state changes. Each is stored once and
 * never freed. */
#ifndef MQFLEET_BASE_INTERN_H
#define MQFLEET_BASE_INTERN_H

#define INTERN_MAX 4096

/* Returns the shared copy of `text`. Equal texts give equal pointers. When there are INTERN_MAX
 * different texts, or no memory, new texts are replaced by "other". Any thread. */
const char *intern(const char *text);

#endif
