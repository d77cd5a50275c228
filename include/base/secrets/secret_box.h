/* Encrypts and decrypts short secrets with AES-256-GCM and the keys of a file. Each secret is bound
 * to an id and a place.
 *
 *   key file    key-id:base64 of 32 bytes       one per line; the first encrypts, all decrypt
 *   sealed      enc:v1:<key-id>:base64 of nonce (12 bytes), ciphertext, tag (16 bytes)
 *
 * A secret sealed for one id and place cannot be opened for another. A box without keys, or NULL,
 * can neither seal nor open. Any thread. */
#ifndef MQFLEET_SECRETS_SECRET_BOX_H
#define MQFLEET_SECRETS_SECRET_BOX_H

#include <stdbool.h>
#include <stddef.h>
#include "base/err.h"

#define SECRET_BOX_FAULT_LEN 320
#define SECRET_KEYS_MAX      8         /* of a key file */
#define SECRET_KEY_ID_LEN    33        /* of a key's name, with its NUL */
#define SECRET_SEALED        "enc:v1:" /* prefix of every sealed secret */

struct secret_box;

struct secret_box *secret_box_create(void); /* NULL: out of memory */
void secret_box_destroy(struct secret_box *box);

/* Replaces the keys of the box by those of a file; "" for none. ERR_ARGUMENT: the fault is one line
 * that names the file and the error, but never a key; the box is unchanged. */
enum err secret_box_load(struct secret_box *box, const char *path,
                         char fault[SECRET_BOX_FAULT_LEN]) MUST_CHECK;
size_t secret_box_key_count(struct secret_box *box);
/* The names of the keys; the first one encrypts. Returns their number. */
size_t secret_box_key_ids(struct secret_box *box, char ids[SECRET_KEYS_MAX][SECRET_KEY_ID_LEN]);

bool secret_is_sealed(const char *text);
/* The name of the key that a secret is sealed with. False: the secret is not sealed, or is
 * damaged. */
bool secret_key_id(const char *sealed, char id[SECRET_KEY_ID_LEN]);

/* id: without NUL and "\n"; place: a JSON pointer. The caller frees *sealed. The same secret in the
 * same place under the same key gives the same text. ERR_UNSUPPORTED: no key. */
enum err secret_seal(struct secret_box *box, const char *id, const char *place, const char *secret,
                     char **sealed) MUST_CHECK;
/* The caller frees *secret, preferably after explicit_bzero. *newest: sealed with the key that
 * encrypts now. ERR_ARGUMENT: damaged, sealed for another place, or the key is missing; fault says
 * which. */
enum err secret_open(struct secret_box *box, const char *id, const char *place, const char *sealed,
                     char **secret, bool *newest, char fault[SECRET_BOX_FAULT_LEN]) MUST_CHECK;

/* A new line for a key file, without the newline; the name of the key is random. The caller frees
 * it. NULL: out of memory. */
char *secret_new_key(void);

#endif
