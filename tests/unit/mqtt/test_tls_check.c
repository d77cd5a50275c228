/* PEM text is checked before it is stored. */
#include <check.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>
#include "mqtt/tls_check.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define TEXT_LEN     8192

static char ca[TEXT_LEN], cert[TEXT_LEN], chain[2 * TEXT_LEN], key[TEXT_LEN], locked[TEXT_LEN];
static char other_key[TEXT_LEN], cut[TEXT_LEN], half_chain[2 * TEXT_LEN];
static char with_key[2 * TEXT_LEN], with_locked[2 * TEXT_LEN];

static void take(BIO *bio, char *out) {
    int n = BIO_read(bio, out, TEXT_LEN - 1);
    ck_assert_int_gt(n, 0);
    out[n] = '\0';
    BIO_free(bio);
}

static EVP_PKEY *make_key(char *text, char *protected_text) {
    EVP_PKEY *made = EVP_EC_gen("P-256");
    BIO *bio = BIO_new(BIO_s_mem());
    ck_assert_int_eq(PEM_write_bio_PrivateKey(bio, made, NULL, NULL, 0, NULL, NULL), 1);
    take(bio, text);
    if (protected_text) {
        bio = BIO_new(BIO_s_mem());
        ck_assert_int_eq(PEM_write_bio_PrivateKey(bio, made, EVP_aes_256_cbc(),
                                                  (const unsigned char *)"open sesame", 11, NULL,
                                                  NULL),
                         1);
        take(bio, protected_text);
    }
    return made;
}

static void make_certificate(EVP_PKEY *of, char *text) {
    X509 *made = X509_new();
    BIO *bio = BIO_new(BIO_s_mem());
    ASN1_INTEGER_set(X509_get_serialNumber(made), 1);
    X509_gmtime_adj(X509_getm_notBefore(made), 0);
    X509_gmtime_adj(X509_getm_notAfter(made), 3600);
    X509_set_pubkey(made, of);
    ck_assert_int_gt(X509_sign(made, of, EVP_sha256()), 0);
    ck_assert_int_eq(PEM_write_bio_X509(bio, made), 1);
    take(bio, text);
    X509_free(made);
}

static void setup(void) {
    EVP_PKEY *first = make_key(key, locked), *second = make_key(other_key, NULL);
    make_certificate(first, cert);
    make_certificate(second, ca);
    snprintf(chain, sizeof(chain), "Subject: a broker\n%s%s", cert, ca);
    snprintf(cut, sizeof(cut), "%.*s", (int)strlen(cert) / 2, cert);
    snprintf(half_chain, sizeof(half_chain), "%s%s", cert, cut);
    snprintf(with_key, sizeof(with_key), "%s%s", key, cert);
    snprintf(with_locked, sizeof(with_locked), "%s%s", cert, locked);
    EVP_PKEY_free(first);
    EVP_PKEY_free(second);
}

static const struct conf conf = {.secrets_files_allow = (char *)"/other,/no/such"};

static const struct check_case {
    char *ca, *cert, *key;
    const char *pointer; /* NULL: nothing is wrong */
    const char *says;
} check_cases[] = {
    {NULL, NULL, NULL, NULL, NULL},
    {ca, NULL, NULL, NULL, NULL},
    {chain, cert, key, NULL, NULL},
    {NULL, chain, key, NULL, NULL},
    {"/no/such/file", "/no/such/cert", "/no/such/key", NULL, NULL},
    {NULL, cert, "/no/such/key", NULL, NULL},
    {NULL, cert, with_key, NULL, NULL},
    {NULL, with_key, key, "/tls/cert", "only certificates"},
    {NULL, with_locked, key, "/tls/cert", "only certificates"},
    {with_key, NULL, NULL, "/tls/ca", "only certificates"},
    {"/etc/ssl/certs/x.pem", NULL, NULL, NULL, NULL},
    {"/etc/shadow", NULL, NULL, "/tls/ca", "may not be read: it is not below a folder of this"},
    {"/no/such/../shadow", NULL, NULL, "/tls/ca", "may not be read"},
    {"/no/suchlike", NULL, NULL, "/tls/ca", "may not be read"},
    {NULL, "/etc/ssl/certs/x.pem", key, "/tls/cert", "may not be read"},
    {NULL, cert, "/proc/self/environ", "/tls/key", "may not be read"},
    {NULL, cert, "$enc$1$k$AAAA", NULL, NULL},
    {NULL, cert, NULL, NULL, NULL}, /* the key is referenced */
    {cut, NULL, NULL, "/tls/ca", "certificate 1 in it cannot be read"},
    {half_chain, NULL, NULL, "/tls/ca", "certificate 2 in it cannot be read"},
    {key, NULL, NULL, "/tls/ca", "must contain a certificate"},
    {NULL, half_chain, key, "/tls/cert", "certificate 2"},
    {NULL, key, key, "/tls/cert", "must contain a certificate"},
    {NULL, cert, cert, "/tls/key", "must contain a readable private key"},
    {NULL, cert, locked, "/tls/key", "protected by a passphrase"},
    {NULL, cert, other_key, "/tls/key", "must be the key of tls.cert"},
    {NULL, "/no/such/cert", locked, "/tls/key", "protected by a passphrase"},
};

START_TEST(pem_text_that_cannot_be_used_is_a_fault_and_files_are_not_opened) {
    const struct check_case *test = &check_cases[_i];
    struct client_tls tls = {.ca = test->ca, .cert = test->cert, .key = test->key};
    struct client_config config = {.scheme = SCHEME_MQTTS, .tls = &tls};
    struct client_faults faults = {.count = 0};
    tls_check(&config, &conf, &faults);
    ck_assert_uint_eq(faults.count, test->pointer ? 1 : 0);
    if (test->pointer) {
        ck_assert_str_eq(faults.items[0].pointer, test->pointer);
        ck_assert_msg(strstr(faults.items[0].detail, test->says) != NULL, "%s",
                      faults.items[0].detail);
    }
}
END_TEST

START_TEST(each_field_has_its_own_fault_and_a_full_list_takes_no_more) {
    struct client_tls tls = {.ca = cut, .cert = cut, .key = locked};
    struct client_config config = {.scheme = SCHEME_MQTTS, .tls = &tls};
    struct client_faults faults = {.count = 0};
    tls_check(&config, &conf, &faults);
    ck_assert_uint_eq(faults.count, 3);
    faults.count = CLIENT_FAULTS_MAX;
    tls_check(&config, &conf, &faults);
    ck_assert_uint_eq(faults.count, CLIENT_FAULTS_MAX);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("tls_check");
    TCase *tcase = tcase_create("tls_check");
    tcase_add_unchecked_fixture(tcase, setup, NULL);
    tcase_add_loop_test(tcase, pem_text_that_cannot_be_used_is_a_fault_and_files_are_not_opened, 0,
                        (int)COUNT(check_cases));
    tcase_add_test(tcase, each_field_has_its_own_fault_and_a_full_list_takes_no_more);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
