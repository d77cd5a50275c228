/* Reads a file of tokens, and creates and compares tokens. Keeps hashes only. Any thread. */
#include "http/auth/tokens.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/secrets/secret_file.h"
#include "base/text.h"

#define HASH_PREFIX "sha256:"
#define SCOPE_WORD  "scope="
#define WORDS_MAX   5 /* one more than a line may have */

static const char *const role_names[] = {[ROLE_NONE] = "none",
                                         [ROLE_VIEWER] = "viewer",
                                         [ROLE_OPERATOR] = "operator",
                                         [ROLE_ADMIN] = "admin"};

const char *role_name(enum role role) {
    return role_names[role];
}

enum role role_parse(const char *name) {
    for (enum role role = ROLE_VIEWER; role <= ROLE_ADMIN; role++) {
        if (strcmp(role_names[role], name) == 0) {
            return role;
        }
    }
    return ROLE_NONE;
}

/* ---- hashes ---------------------------------------------------------------------------------- */

void token_hash_text(const char *token, char out[TOKEN_HASHED_LEN]) {
    unsigned char hash[SECRET_HASH_LEN];
    secret_hash(token, strlen(token), hash);
    size_t len = strlen(strcpy(out, HASH_PREFIX));
    for (size_t i = 0; i < sizeof(hash); i++) {
        snprintf(out + len + 2 * i, 3, "%02x", hash[i]);
    }
}

static int tokens_hex_digit(char digit) {
    if (digit >= '0' && digit <= '9') {
        return digit - '0';
    }
    digit = (char)(digit | 0x20);
    return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

static bool tokens_parse_hash(const char *text, unsigned char out[SECRET_HASH_LEN]) {
    size_t prefix_len = strlen(HASH_PREFIX);
    if (strncmp(text, HASH_PREFIX, prefix_len) != 0 ||
        strlen(text) != prefix_len + (size_t)2 * SECRET_HASH_LEN) {
        return false;
    }
    for (size_t i = 0; i < SECRET_HASH_LEN; i++) {
        int high = tokens_hex_digit(text[prefix_len + 2 * i]);
        int low = tokens_hex_digit(text[prefix_len + 2 * i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        out[i] = (unsigned char)(high << 4 | low);
    }
    return true;
}

enum err token_create(char out[TOKEN_CREATED_LEN]) {
    unsigned char random[32];
    enum err err = secret_random(random, sizeof(random));
    char *text = err == ERR_OK ? text_base64_encode(random, sizeof(random)) : NULL;
    secret_wipe(random, sizeof(random));
    if (!text) {
        return err == ERR_OK ? ERR_MEMORY : err;
    }
    /* RFC 4648 section 5, without padding: needs no escaping in shells and headers. */
    for (char *at = text; *at != '\0'; at++) {
        *at = *at == '+' ? '-' : *at == '/' ? '_' : *at == '=' ? '\0' : *at;
    }
    snprintf(out, TOKEN_CREATED_LEN, "mqf_%s", text);
    secret_wipe(text, strlen(text));
    free(text);
    return ERR_OK;
}

/* ---- the file -------------------------------------------------------------------------------- */

bool token_name_is_valid(const char *name) {
    static const char ALLOWED[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.@";
    return name[0] != '\0' && strlen(name) < TOKEN_NAME_LEN && name[strspn(name, ALLOWED)] == '\0';
}

static bool tokens_parse_scope(const char *word, struct scope *out) {
    size_t prefix_len = strlen(SCOPE_WORD);
    return strncmp(word, SCOPE_WORD, prefix_len) == 0 && scope_parse(word + prefix_len, out);
}

/* The fault of the line; NULL: none. The text never quotes the line, which may be a token without a
 * hash. */
static const char *tokens_parse_line(char *line, const struct tokens *before, struct token *out) {
    char *rest = line, *words[WORDS_MAX] = {0};
    size_t count = 0;
    for (char *word = strsep(&rest, " \t"); word; word = strsep(&rest, " \t")) {
        if (word[0] != '\0' && count < WORDS_MAX) {
            words[count++] = word;
        }
    }
    if (count < 3 || count > 4) {
        return "must be: name role sha256:hash, and possibly scope=label.NAME=VALUE";
    }
    if (!token_name_is_valid(words[0])) {
        return "the name must be 1 to 64 letters, digits and - _ . @";
    }
    out->role = role_parse(words[1]);
    if (out->role == ROLE_NONE) {
        return "the role must be viewer, operator or admin";
    }
    if (!tokens_parse_hash(words[2], out->hash)) {
        return "the third word must be sha256: and 64 hexadecimal digits, as printed by mqfleetd "
               "--hash-token";
    }
    if (words[3] && !tokens_parse_scope(words[3], &out->scope)) {
        return "the fourth word must be scope=label.NAME=VALUE, the value percent-encoded";
    }
    snprintf(out->name, sizeof(out->name), "%s", words[0]);
    for (size_t i = 0; i < before->count; i++) {
        if (strcmp(before->items[i].name, out->name) == 0) {
            return "the name is a duplicate";
        }
    }
    return NULL;
}

enum err tokens_load(struct tokens **out, const char *path, char *fault) {
    *out = NULL;
    struct secret_file file;
    enum err err = secret_file_load(path, &file, fault);
    struct tokens *tokens = NULL;
    if (err != ERR_OK) {
        goto out;
    }
    err = ERR_ARGUMENT;
    if (file.count == 0 || file.count > TOKENS_MAX) {
        snprintf(fault, SECRET_FAULT_LEN, "%.150s: must contain 1 to %d tokens, one per line", path,
                 TOKENS_MAX);
        goto out;
    }
    tokens = calloc(1, sizeof *tokens + file.count * sizeof(tokens->items[0]));
    if (!tokens) {
        snprintf(fault, SECRET_FAULT_LEN, "out of memory");
        err = ERR_MEMORY;
        goto out;
    }
    for (size_t i = 0; i < file.count; i++) {
        const char *wrong = tokens_parse_line(file.lines[i].text, tokens, &tokens->items[i]);
        if (wrong) {
            snprintf(fault, SECRET_FAULT_LEN, "%.100s line %zu: %s", path, file.lines[i].number,
                     wrong);
            goto out;
        }
        tokens->count++;
    }
    *out = tokens;
    tokens = NULL;
    err = ERR_OK;
out:
    free(tokens);
    secret_file_fini(&file);
    return err;
}

const struct token *tokens_find(const struct tokens *tokens, const char *presented) {
    unsigned char hash[SECRET_HASH_LEN];
    size_t found = tokens->count;
    secret_hash(presented, strlen(presented), hash);
    for (size_t i = 0; i < tokens->count; i++) {
        bool equal = secret_compare(hash, tokens->items[i].hash, sizeof(hash)) == 0;
        found = equal ? i : found;
    }
    return found < tokens->count ? &tokens->items[found] : NULL;
}
