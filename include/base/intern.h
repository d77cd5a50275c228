/* Texts that recur by the thousand, such as reasons of state changes, kept once and for ever. */
#ifndef MQFLEET_BASE_INTERN_H
#define MQFLEET_BASE_INTERN_H

#define INTERN_MAX 4096

/* The one copy of `text`, never freed, equal texts give equal pointers. Beyond INTERN_MAX different
 * ones, or out of memory, "other" stands for the rest. Any thread. */
const char *intern(const char *text);

#endif
