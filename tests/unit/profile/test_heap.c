/* Tests of profile/heap: the samples of known allocations, and their output. */
#include "profile/heap.h"

#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/buffer.h"
#include "profile/profile.h"
#include "profile/proto.h"

#define MEAN  4096
#define COUNT 20000
#define SIZE  200

static void *blocks[COUNT];

/* The test searches for its name. */
__attribute__((noinline)) void allocate_for_the_test(void) {
    for (size_t i = 0; i < COUNT; i++) {
        blocks[i] = malloc(SIZE);
    }
}

struct sums {
    long long alloc_objects, alloc_bytes, inuse_objects, inuse_bytes;
};

/* Sums the samples whose stack contains that function, from the text of profile_print. */
static struct sums sums_of(const char *name) {
    struct sums sums = {0}, one = {0};
    struct buffer out;
    struct profile *profile = heap_profile_take();
    buffer_init(&out);
    ck_assert_ptr_nonnull(profile);
    ck_assert_int_eq(profile_print(profile, true, &out), ERR_OK);
    for (char *rest = out.data, *line = strsep(&rest, "\n"); line; line = strsep(&rest, "\n")) {
        struct sums read = {0};
        if (sscanf(line, "%lld %lld %lld %lld @", &read.alloc_objects, &read.alloc_bytes,
                   &read.inuse_objects, &read.inuse_bytes) == 4) {
            one = read;
        } else if (strstr(line, name)) {
            sums.alloc_objects += one.alloc_objects;
            sums.alloc_bytes += one.alloc_bytes;
            sums.inuse_objects += one.inuse_objects;
            sums.inuse_bytes += one.inuse_bytes;
            one = (struct sums){0};
        }
    }
    profile_destroy(profile);
    buffer_fini(&out);
    return sums;
}

static void ck_about(long long estimate, long long truth) {
    ck_assert_msg(llabs(estimate - truth) * 5 < truth, "%lld, and it was %lld", estimate, truth);
}

START_TEST(allocations_are_found_under_their_function) {
    if (!heap_profile_supported()) {
        return;
    }
    heap_profile_start(MEAN);
    allocate_for_the_test();
    /* About a thousand samples: 3 % is what to expect of them. */
    struct sums sums = sums_of("allocate_for_the_test");
    ck_about(sums.alloc_objects, COUNT);
    ck_about(sums.alloc_bytes, COUNT * SIZE);
    ck_about(sums.inuse_objects, COUNT);
    ck_about(sums.inuse_bytes, COUNT * SIZE);
    for (size_t i = 0; i < COUNT; i++) {
        free(blocks[i]);
    }
    sums = sums_of("allocate_for_the_test");
    ck_about(sums.alloc_objects, COUNT);
    ck_assert_int_eq(sums.inuse_objects, 0);
    ck_assert_int_eq(heap_profile_mean_bytes(), MEAN);
    heap_profile_start(0);
}
END_TEST

static void *churn(void *unused) {
    (void)unused;
    for (int i = 0; i < 100000; i++) {
        char *block = malloc((size_t)(i % 700));
        block = realloc(block, (size_t)(i % 900) + 1);
        ck_assert_ptr_nonnull(block);
        block[0] = 1;
        free(block);
        free(calloc(3, (size_t)(i % 50)));
    }
    return NULL;
}

START_TEST(many_threads_allocate_while_profiles_are_taken) {
    pthread_t threads[4];
    heap_profile_start(512);
    for (size_t i = 0; i < 4; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, churn, NULL), 0);
    }
    for (int i = 0; i < 10; i++) {
        struct buffer out;
        struct profile *profile = heap_profile_take();
        buffer_init(&out);
        ck_assert_int_eq(profile_write(profile, &out), ERR_OK);
        ck_assert_int_eq((unsigned char)out.data[0], 0x1f); /* gzip, RFC 1952 */
        ck_assert_int_eq((unsigned char)out.data[1], 0x8b);
        buffer_fini(&out);
        profile_destroy(profile);
    }
    for (size_t i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    heap_profile_start(0);
}
END_TEST

START_TEST(fields_are_written_as_the_encoding_says) {
    static const int64_t values[] = {0, 1, 300};
    static const char expected[] = "\x08\x96\x01\x12\x02hi\x1a\x04\x00\x01\xac\x02";
    struct buffer out;
    buffer_init(&out);
    proto_int(&out, 1, 150);
    proto_int(&out, 4, 0);
    proto_bytes(&out, 2, "hi", 2);
    proto_packed(&out, 3, values, 3);
    ck_assert_uint_eq(out.len, sizeof(expected) - 1);
    ck_assert_int_eq(memcmp(out.data, expected, out.len), 0);
    buffer_fini(&out);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("heap");
    TCase *all = tcase_create("all");
    tcase_add_test(all, allocations_are_found_under_their_function);
    tcase_add_test(all, many_threads_allocate_while_profiles_are_taken);
    tcase_add_test(all, fields_are_written_as_the_encoding_says);
    tcase_set_timeout(all, 60);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
