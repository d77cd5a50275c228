/* No state. */
#include "faults.h"

#include <stdio.h>
#include <string.h>
#include "progress.h"
#include "table.h"

const char *cli_faults_pointer(const json_t *error, size_t skip) {
    const char *pointer = json_string_value(json_object_get(error, "pointer"));
    for (size_t n = 0; pointer && n < skip; n++) {
        pointer = pointer[0] != '\0' ? strchr(pointer + 1, '/') : NULL;
    }
    return pointer;
}

static void cli_faults_print_line(size_t *shown, const struct faults_place *place,
                                  const char *pointer, const char *detail) {
    char safe_name[300], safe_pointer[300], safe[900];
    if (*shown > FAULTS_SHOWN_MAX) {
        return;
    }
    cli_progress_clear();
    if (++*shown > FAULTS_SHOWN_MAX) {
        cli_error("further faults are not shown");
        return;
    }
    fprintf(stderr, "%s%sline %zu", place->file ? place->file : "", place->file ? ", " : "",
            place->line);
    if (place->document > 0) {
        fprintf(stderr, ", document %zu", place->document);
    }
    if (place->kind || place->name) {
        fprintf(stderr, ", %s%s%s", place->kind ? place->kind : "",
                place->kind && place->name ? " " : "",
                place->name ? table_printable(place->name, safe_name, sizeof safe_name) : "");
    }
    table_printable(pointer, safe_pointer, sizeof safe_pointer);
    fprintf(stderr, ": %s%s%s\n", safe_pointer, safe_pointer[0] != '\0' ? ": " : "",
            table_printable(detail, safe, sizeof safe));
}

void cli_faults_print(size_t *shown, const struct faults_place *place, const json_t *errors,
                      size_t skip, const char *detail) {
    size_t i;
    const json_t *error;
    if (json_array_size(errors) == 0) {
        cli_faults_print_line(shown, place, "", detail);
    }
    json_array_foreach(errors, i, error) {
        const char *pointer = cli_faults_pointer(error, skip);
        const char *what = json_string_value(json_object_get(error, "detail"));
        cli_faults_print_line(shown, place, pointer ? pointer : "", what ? what : detail);
    }
}
