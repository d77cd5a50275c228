/* Owns the parsed lists of allowed and denied brokers. Read-only after creation; any thread. Does
 * no DNS: the caller passes each address that a name resolves to.
 *
 * Every address is kept as 16 bytes, IPv4 as ::ffff:a.b.c.d, so an IPv4-mapped address equals its
 * IPv4 address. Only what inet_pton accepts is a literal. Other spellings ("127.1", "0x7f000001")
 * are names here, and the address they resolve to is checked. */
#include "mqtt/config/address_policy.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/text.h"

#define ADDRESS_LEN                   16
#define ADDRESS_BITS                  128
#define ADDRESS_POLICY_V4_BITS_BEFORE 96 /* of ::ffff:0:0/96 */
#define HOST_LEN_MAX                  255

struct address_policy_network {
    uint8_t bytes[ADDRESS_LEN];
    unsigned bits;
};

struct entry {
    char *pattern; /* of host names, without trailing dot; NULL: a network */
    struct address_policy_network network;
};

struct address_policy_list {
    struct entry *entries;
    size_t count;
    bool has_network;
};

struct address_policy {
    struct address_policy_list allow, deny;
    bool deny_local;
};

#define ADDRESS_POLICY_V4(a, b, c, d)                                                              \
    { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, (a), (b), (c), (d) }

static const struct address_policy_network address_policy_loopback_v6 = {{[15] = 1}, 128};

/* The networks of deny_local. */
static const struct address_policy_network address_policy_local_networks[] = {
    {ADDRESS_POLICY_V4(127, 0, 0, 0), ADDRESS_POLICY_V4_BITS_BEFORE + 8}, /* loopback, RFC 1122 */
    {ADDRESS_POLICY_V4(169, 254, 0, 0),
     ADDRESS_POLICY_V4_BITS_BEFORE + 16}, /* link-local, RFC 3927; cloud metadata */
    {ADDRESS_POLICY_V4(0, 0, 0, 0),
     ADDRESS_POLICY_V4_BITS_BEFORE + 8}, /* "this host"; 0.0.0.0 reaches loopback */
    {ADDRESS_POLICY_V4(224, 0, 0, 0), ADDRESS_POLICY_V4_BITS_BEFORE + 4},        /* multicast */
    {ADDRESS_POLICY_V4(255, 255, 255, 255), ADDRESS_POLICY_V4_BITS_BEFORE + 32}, /* broadcast */
    {{[15] = 1}, 128},                                                           /* ::1 */
    {{0}, 128},                                                                  /* :: */
    {{0xfe, 0x80}, 10},                                                          /* link-local */
    {{0xff}, 8},                                                                 /* multicast */
    {{0xfd, 0x00, 0x0e, 0xc2, [14] = 0x02, [15] = 0x54}, 128}, /* fd00:ec2::254, cloud metadata */
};
/* IPv6 networks whose addresses embed an IPv4 address. */
static const struct {
    struct address_policy_network network;
    size_t at; /* its position, in bytes */
} address_policy_embeddings[] = {
    {{{0x00, 0x64, 0xff, 0x9b}, 96}, 12},             /* NAT64, RFC 6052 */
    {{{0x00, 0x64, 0xff, 0x9b, 0x00, 0x01}, 48}, 12}, /* local NAT64, RFC 8215 */
    {{{0x20, 0x02}, 16}, 2},                          /* 6to4, RFC 3056 */
    {{{0}, 96}, 12},                                  /* IPv4-compatible, RFC 4291 */
};

#define LOCAL_NETWORK_COUNT                                                                        \
    (sizeof(address_policy_local_networks) / sizeof(address_policy_local_networks[0]))

static const char address_policy_why_denied[] = "the broker's address is in broker_deny";
static const char address_policy_why_not_allowed[] = "the broker's address is not in broker_allow";
static const char address_policy_why_local[] =
    "loopback, link-local and multicast addresses are denied on a node "
    "that listens beyond loopback; broker_allow may name them";
static const char address_policy_why_no_host[] =
    "the broker's host is neither a name nor an address";

/* Addresses */

static void address_policy_from_v4(uint8_t out[ADDRESS_LEN], const struct in_addr *v4) {
    memset(out, 0, ADDRESS_LEN);
    out[10] = out[11] = 0xff;
    memcpy(out + 12, v4, sizeof *v4);
}

static bool address_policy_is_v4(const uint8_t address[ADDRESS_LEN]) {
    static const uint8_t before[12] = {[10] = 0xff, [11] = 0xff};
    return memcmp(address, before, sizeof(before)) == 0;
}

/* An IPv4 or IPv6 literal; IPv6 may be in brackets. */
static bool address_policy_from_text(uint8_t out[ADDRESS_LEN], const char *text) {
    struct in_addr v4;
    if (inet_pton(AF_INET, text, &v4) == 1) {
        address_policy_from_v4(out, &v4);
        return true;
    }
    char inner[INET6_ADDRSTRLEN];
    size_t len = strlen(text);
    if (len >= 2 && text[0] == '[' && text[len - 1] == ']') {
        text++;
        len -= 2;
    }
    if (len >= sizeof(inner)) {
        return false;
    }
    memcpy(inner, text, len);
    inner[len] = '\0';
    return inet_pton(AF_INET6, inner, out) == 1;
}

static bool address_policy_from_sockaddr(uint8_t out[ADDRESS_LEN], const struct sockaddr *address) {
    if (address->sa_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, address, sizeof(v4));
        address_policy_from_v4(out, &v4.sin_addr);
        return true;
    }
    if (address->sa_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, address, sizeof(v6));
        memcpy(out, &v6.sin6_addr, ADDRESS_LEN);
        return true;
    }
    return false;
}

static bool address_policy_network_contains(const struct address_policy_network *network,
                                            const uint8_t address[ADDRESS_LEN]) {
    if (network->bits < ADDRESS_POLICY_V4_BITS_BEFORE && address_policy_is_v4(address)) {
        return false; /* ::/0 is all of IPv6, not IPv4 */
    }
    size_t whole = network->bits / 8;
    unsigned rest = network->bits % 8;
    if (memcmp(network->bytes, address, whole) != 0) {
        return false;
    }
    uint8_t mask = (uint8_t)(0xff00u >> rest);
    return rest == 0 || ((network->bytes[whole] ^ address[whole]) & mask) == 0;
}

/* False: none is embedded. A gateway does not reach 0.0.0.0/8, so it does not count; this includes
 * :: and ::1. */
static bool address_policy_embedded_v4(uint8_t out[ADDRESS_LEN],
                                       const uint8_t address[ADDRESS_LEN]) {
    for (size_t i = 0; i < sizeof(address_policy_embeddings) / sizeof(address_policy_embeddings[0]);
         i++) {
        const uint8_t *inner = address + address_policy_embeddings[i].at;
        if (address_policy_network_contains(&address_policy_embeddings[i].network, address) &&
            inner[0] != 0) {
            struct in_addr v4;
            memcpy(&v4, inner, sizeof(v4));
            address_policy_from_v4(out, &v4);
            return true;
        }
    }
    return false;
}

static bool address_policy_is_local(const uint8_t address[ADDRESS_LEN]) {
    for (size_t i = 0; i < LOCAL_NETWORK_COUNT; i++) {
        if (address_policy_network_contains(&address_policy_local_networks[i], address)) {
            return true;
        }
    }
    return false;
}

/* Lists */

/* "10.0.0.0/8", or a single address. */
static bool address_policy_parse_network(struct address_policy_network *out, const char *text) {
    char address[INET6_ADDRSTRLEN + 2];
    const char *slash = strchr(text, '/');
    size_t len = !slash ? strlen(text) : (size_t)(slash - text);
    if (len >= sizeof(address)) {
        return false;
    }
    memcpy(address, text, len);
    address[len] = '\0';
    if (!address_policy_from_text(out->bytes, address)) {
        return false;
    }
    out->bits = ADDRESS_BITS;
    if (!slash) {
        return true;
    }
    unsigned before = !strchr(address, ':') ? ADDRESS_POLICY_V4_BITS_BEFORE : 0;
    char *end;
    unsigned long bits = strtoul(slash + 1, &end, 10);
    if (!isdigit((unsigned char)slash[1]) || *end != '\0' || bits > ADDRESS_BITS - before) {
        return false;
    }
    out->bits = before + (unsigned)bits;
    return true;
}

/* Letters, digits, "-", "_", "." and "*". A pattern of digits only ("10.*") is refused: it looks
 * like a network but would not match names that resolve into it. */
static bool address_policy_pattern_is_valid(const char *text) {
    static const char other[] = "-_.*";
    bool has_digit = false;
    bool has_letter = false;
    for (const char *c = text; *c != '\0'; c++) {
        has_digit |= isdigit((unsigned char)*c) != 0;
        has_letter |= isalpha((unsigned char)*c) != 0;
        if (!isalnum((unsigned char)*c) && !strchr(other, *c)) {
            return false;
        }
    }
    return text[0] != '\0' && strlen(text) <= HOST_LEN_MAX && (has_letter || !has_digit);
}

static enum err address_policy_parse_entry(struct address_policy_list *list, const char *text) {
    struct entry *entry = &list->entries[list->count];
    if (address_policy_parse_network(&entry->network, text)) {
        list->has_network = true;
        list->count++;
        return ERR_OK;
    }
    size_t len = strlen(text);
    if (len > 1 && text[len - 1] == '.') {
        len--;
    }
    entry->pattern = text_copy(text, len);
    if (!entry->pattern) {
        return ERR_MEMORY;
    }
    list->count++;
    return address_policy_pattern_is_valid(entry->pattern) ? ERR_OK : ERR_ARGUMENT;
}

static enum err address_policy_list_init(struct address_policy_list *list, const char *text) {
    static const char separators[] = ", \t\r\n";
    size_t entries_max = 1;
    for (const char *c = text; *c != '\0'; c++) {
        entries_max += strchr(separators, *c) != NULL;
    }
    char *copy = text_dup(text);
    list->entries = calloc(entries_max, sizeof *list->entries);
    enum err err = !copy || !list->entries ? ERR_MEMORY : ERR_OK;

    char *position;
    char *token = err == ERR_OK ? strtok_r(copy, separators, &position) : NULL;
    while (token && err == ERR_OK) {
        err = address_policy_parse_entry(list, token);
        token = strtok_r(NULL, separators, &position);
    }
    free(copy);
    return err;
}

static void address_policy_list_fini(struct address_policy_list *list) {
    for (size_t i = 0; i < list->count; i++) {
        free(list->entries[i].pattern);
    }
    free(list->entries);
}

/* address NULL: only names can match. exact: a pattern with "*" does not count. */
static bool address_policy_list_matches(const struct address_policy_list *list, const char *host,
                                        const uint8_t *address, bool exact) {
    for (size_t i = 0; i < list->count; i++) {
        const struct entry *entry = &list->entries[i];
        if (!entry->pattern) {
            if (address && address_policy_network_contains(&entry->network, address)) {
                return true;
            }
        } else if (!(exact && strchr(entry->pattern, '*')) &&
                   text_wildcard_match(entry->pattern, host)) {
            return true;
        }
    }
    return false;
}

static bool address_policy_is_loopback(const char *listen) {
    uint8_t address[ADDRESS_LEN];
    return strcmp(listen, "localhost") == 0 ||
           (address_policy_from_text(address, listen) &&
            (address_policy_network_contains(&address_policy_local_networks[0], address) ||
             address_policy_network_contains(&address_policy_loopback_v6, address)));
}

enum err address_policy_create(struct address_policy **out, const char *allow, const char *deny,
                               const char *listen) {
    *out = NULL;
    struct address_policy *policy = calloc(1, sizeof *policy);
    if (!policy) {
        return ERR_MEMORY;
    }
    policy->deny_local = !address_policy_is_loopback(listen);
    enum err err = address_policy_list_init(&policy->allow, allow);
    if (err == ERR_OK) {
        err = address_policy_list_init(&policy->deny, deny);
    }
    if (err != ERR_OK) {
        address_policy_destroy(policy);
        return err;
    }
    *out = policy;
    return ERR_OK;
}

void address_policy_destroy(struct address_policy *policy) {
    if (!policy) {
        return;
    }
    address_policy_list_fini(&policy->allow);
    address_policy_list_fini(&policy->deny);
    free(policy);
}

/* Checks */

/* "localhost." and "localhost" are the same name. False: empty or too long for a name. */
static bool address_policy_strip_dot(char out[HOST_LEN_MAX + 1], const char *host) {
    size_t len = strlen(host);
    if (len > 0 && host[len - 1] == '.') {
        len--;
    }
    if (len == 0 || len > HOST_LEN_MAX) {
        return false;
    }
    memcpy(out, host, len);
    out[len] = '\0';
    return true;
}

/* RFC 6761 section 6.3: always loopback. */
static bool address_policy_is_local_name(const char *host) {
    return text_wildcard_match("localhost", host) || text_wildcard_match("*.localhost", host);
}

/* NULL: may be reached. address NULL: host is a name that is not resolved yet. */
static const char *address_policy_check(const struct address_policy *policy, const char *host,
                                        const uint8_t *address) {
    uint8_t inner[ADDRESS_LEN];
    bool has_inner = address && address_policy_embedded_v4(inner, address);
    if (address_policy_list_matches(&policy->deny, host, address, false) ||
        (has_inner && address_policy_list_matches(&policy->deny, host, inner, false))) {
        return address_policy_why_denied;
    }
    bool undecided = !address && policy->allow.has_network;
    if (policy->allow.count > 0 && !undecided &&
        !address_policy_list_matches(&policy->allow, host, address, false)) {
        return address_policy_why_not_allowed;
    }
    bool local = !address ? address_policy_is_local_name(host)
                          : address_policy_is_local(address) ||
                                (has_inner && address_policy_is_local(inner));
    if (policy->deny_local && local && !undecided &&
        !address_policy_list_matches(&policy->allow, host, address, true)) {
        return address_policy_why_local;
    }
    return NULL;
}

static bool address_policy_answer(const char *reason, const char **why) {
    if (reason && why) {
        *why = reason;
    }
    return !reason;
}

bool address_policy_host(const struct address_policy *policy, const char *host, const char **why) {
    char name[HOST_LEN_MAX + 1];
    uint8_t address[ADDRESS_LEN];
    if (!address_policy_strip_dot(name, host)) {
        return address_policy_answer(address_policy_why_no_host, why);
    }
    return address_policy_answer(
        address_policy_check(policy, name,
                             address_policy_from_text(address, name) ? address : NULL),
        why);
}

bool address_policy_address(const struct address_policy *policy, const char *host,
                            const struct sockaddr *address, const char **why) {
    char name[HOST_LEN_MAX + 1];
    uint8_t bytes[ADDRESS_LEN];
    if (!address_policy_strip_dot(name, host) || !address_policy_from_sockaddr(bytes, address)) {
        return address_policy_answer(address_policy_why_no_host, why);
    }
    return address_policy_answer(address_policy_check(policy, name, bytes), why);
}
