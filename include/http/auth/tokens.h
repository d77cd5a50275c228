/* The tokens of callers: lines "name role sha256:hash [scope=label.NAME=VALUE]" of
 * http.tokens_file. Read-only when loaded; any thread. */
#ifndef MQFLEET_AUTH_TOKENS_H
#define MQFLEET_AUTH_TOKENS_H

#include <stdbool.h>
#include <stddef.h>
#include "base/err.h"
#include "http/auth/scope.h"

#define TOKENS_MAX        1000
#define TOKEN_NAME_LEN    65 /* 64 characters and the NUL */
#define TOKEN_LEN_MIN     16 /* of a token to be hashed; --new-token creates longer ones */
#define TOKEN_LEN_MAX     512
#define TOKEN_HASHED_LEN  72 /* "sha256:", 64 hexadecimal digits and the NUL */
#define TOKEN_CREATED_LEN 47 /* "mqf_", 43 characters of base64url and the NUL: 256 random bits */

/* Each role includes the previous one. */
enum role { ROLE_NONE, ROLE_VIEWER, ROLE_OPERATOR, ROLE_ADMIN };
const char *role_name(enum role role);  /* static */
enum role role_parse(const char *name); /* ROLE_NONE: no such role */

struct token {
    char name[TOKEN_NAME_LEN];
    enum role role;
    struct scope scope;
    unsigned char hash[32];
};

struct tokens {
    size_t count;
    struct token items[];
};

/* ERR_ARGUMENT: `fault` (256 bytes) names the file, the line and the error. Caller: free. */
enum err tokens_load(struct tokens **out, const char *path, char *fault) MUST_CHECK;
/* Borrowed; NULL: no such token. Always compares with all tokens, in constant time. */
const struct token *tokens_find(const struct tokens *tokens, const char *presented);

/* 1 to 64 letters, digits and - _ . @ */
bool token_name_is_valid(const char *name);
/* "sha256:..." as in the file. */
void token_hash_text(const char *token, char out[TOKEN_HASHED_LEN]);
/* A new token of 256 random bits. */
enum err token_create(char out[TOKEN_CREATED_LEN]) MUST_CHECK;

#endif
