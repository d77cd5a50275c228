/* YAML documents as JSON values, and back. Scalars follow the core schema of YAML 1.2: plain ones
 * may be null, booleans and numbers. Anchors, aliases and tags are refused. One thread. */
#ifndef MQFLEET_CLI_MANIFEST_YAML_H
#define MQFLEET_CLI_MANIFEST_YAML_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define MANIFEST_YAML_DEPTH_MAX 32

/* Takes ownership of a document that begins on that line. False: stop. */
typedef bool manifest_yaml_take(void *context, json_t *document, size_t line);

/* Reads all documents of a text. False: `take` returned false, or the error was printed with the
 * name of the file, line and column. */
bool manifest_yaml_read(const char *name, const char *text, size_t len, manifest_yaml_take *take,
                        void *context);

/* Writes one document in block style, led by "---". False: out of memory, or the file failed. */
bool manifest_yaml_write(FILE *file, const json_t *document);

#endif
