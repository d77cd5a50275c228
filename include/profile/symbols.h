/* Names of the functions of this process, from the symbol tables of the program and its libraries.
 * Files stay mapped while a table is open. Owned by one thread. */
#ifndef MQFLEET_PROFILE_SYMBOLS_H
#define MQFLEET_PROFILE_SYMBOLS_H

#include <stddef.h>
#include <stdint.h>

#define BUILD_ID_LEN 41

struct module {
    char *path;
    uintptr_t begin, end;        /* of the code */
    uintptr_t offset;            /* in the file, of begin */
    char build_id[BUILD_ID_LEN]; /* hexadecimal; empty: none */
};

struct symbols;

struct symbols *symbols_open(void); /* NULL: out of memory */
void symbols_close(struct symbols *symbols);
/* The function that contains the address; NULL: unknown. Borrowed. */
const char *symbols_name(const struct symbols *symbols, uintptr_t address);
const struct module *symbols_modules(const struct symbols *symbols, size_t *count);

#endif
