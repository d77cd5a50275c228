/* Tests of the stream of dead letters with a real Redis. */
#include "store/dead_letters.h"
#include "store_fixture.h"

static struct dead_letters_page page;

static void add(const char *id, const char *client, const char *topic, const char *sink) {
    RAW("XADD", DEAD_LETTERS_KEY, id, "id", client, "topic", topic, "payload", "x",
        "dead_letter_sink", sink);
}

static void call(enum dead_letters_action action, const struct dead_letters_selector *selector,
                 const char *after, size_t matches_max) {
    dead_letters_page_fini(&page);
    ck_assert_int_eq(store_dead_letters(store, action, selector, after, matches_max, &page),
                     ERR_OK);
}

static const struct {
    struct dead_letters_selector selector;
    const char *ids; /* that match, separated by a blank */
} selections[] = {
    {{0}, "1-0 1-1 5-0 9-0"},
    {{.client = "a"}, "1-0 1-1"},
    {{.client = ""}, "1-0 1-1 5-0 9-0"},
    {{.sink = "file"}, "9-0"},
    {{.client = "b", .sink = "file"}, "9-0"},
    {{.client = "a", .sink = "file"}, ""},
    {{.topic = "t/1"}, "1-0"},
    {{.topic = "t/+"}, "1-0 1-1"},
    {{.topic = "t/#"}, "1-0 1-1 5-0"},
    {{.topic = "+/x/+"}, "5-0"},
    {{.topic = "u"}, "9-0"},
    {{.topic = "u/#"}, "9-0"},
    {{.topic = "u/+"}, ""},
    {{.since_ms = 5}, "5-0 9-0"},
    {{.until_ms = 5}, "1-0 1-1 5-0"},
    {{.since_ms = 2, .until_ms = 4}, ""},
    {{.entry = "1-1"}, "1-1"},
    {{.entry = "1-1", .client = "b"}, ""},
    {{.entry = "7-7"}, ""},
};

static void add_four(void) {
    add("1-0", "a", "t/1", "default");
    add("1-1", "a", "t/2", "default");
    add("5-0", "b", "t/x/y", "default");
    add("9-0", "b", "u", "file");
}

START_TEST(a_selector_selects) {
    char ids[64] = "";
    add_four();
    call(DEAD_LETTERS_LIST, &selections[_i].selector, "", 100);
    for (size_t i = 0; i < page.count; i++) {
        strcat(strcat(ids, i > 0 ? " " : ""), dead_letters_page_id(&page, i));
    }
    ck_assert_str_eq(ids, selections[_i].ids);
    ck_assert_int_eq(page.matched, (int64_t)page.count);
    ck_assert_str_eq(page.next, "");
    ck_assert_int_eq(page.total, 4);
    call(DEAD_LETTERS_COUNT, &selections[_i].selector, "", 100);
    ck_assert_uint_eq(page.count, 0);
    int64_t matched = page.matched;
    call(DEAD_LETTERS_DROP, &selections[_i].selector, "", 100);
    ck_assert_int_eq(page.matched, matched);
    ck_assert_int_eq(page.total, 4 - matched);
    ck_assert_int_eq(RAW_INT("XLEN", DEAD_LETTERS_KEY), 4 - matched);
    dead_letters_page_fini(&page);
}
END_TEST

START_TEST(pages_follow_each_other) {
    struct dead_letters_selector all = {0};
    size_t len;
    const char *name, *value;
    add_four();
    call(DEAD_LETTERS_LIST, &all, "", 1);
    ck_assert_str_eq(page.next, "1-0");
    ck_assert_uint_eq(dead_letters_page_fields(&page, 0), 4);
    dead_letters_page_field(&page, 0, 1, &name, &value, &len);
    ck_assert_str_eq(name, "topic");
    ck_assert_str_eq(value, "t/1");
    ck_assert_uint_eq(len, 3);
    call(DEAD_LETTERS_LIST, &all, "1-0", 2);
    ck_assert_str_eq(dead_letters_page_id(&page, 0), "1-1");
    ck_assert_str_eq(page.next, "5-0");
    call(DEAD_LETTERS_LIST, &all, "5-0", 2);
    ck_assert_str_eq(page.next, "");
    ck_assert_uint_eq(page.count, 1);
    dead_letters_page_fini(&page);
}
END_TEST

START_TEST(one_call_does_bounded_work) {
    char id[24];
    for (int i = 1; i <= 2500; i++) {
        snprintf(id, sizeof id, "%d-0", i);
        add(id, i == 2400 ? "wanted" : "c", "t", "default");
    }
    call(DEAD_LETTERS_DROP, &(struct dead_letters_selector){.client = "wanted"}, "", 100);
    ck_assert_str_eq(page.next, "2000-0");
    ck_assert_int_eq(page.matched, 0);
    call(DEAD_LETTERS_DROP, &(struct dead_letters_selector){.client = "wanted"}, "2000-0", 100);
    ck_assert_int_eq(page.matched, 1);
    ck_assert_str_eq(page.next, "");
    ck_assert_int_eq(page.total, 2499);
    call(DEAD_LETTERS_DROP, &(struct dead_letters_selector){0}, "", 100000);
    ck_assert_int_eq(page.matched, DEAD_LETTERS_MATCHES_MAX);
    dead_letters_page_fini(&page);
}
END_TEST

START_TEST(one_call_looks_at_about_four_megabytes) {
    char *large = malloc(3000001);
    memset(large, 'x', 3000000);
    large[3000000] = '\0';
    for (int i = 0; i < 5; i++) {
        RAW("XADD", DEAD_LETTERS_KEY, "*", "payload", large);
    }
    call(DEAD_LETTERS_LIST, &(struct dead_letters_selector){0}, "", 100);
    ck_assert_uint_eq(page.count, 2);
    ck_assert_str_ne(page.next, "");
    call(DEAD_LETTERS_COUNT, &(struct dead_letters_selector){0}, "", 100);
    ck_assert_int_eq(page.matched, 2);
    ck_assert_str_ne(page.next, "");
    dead_letters_page_fini(&page);
    free(large);
}
END_TEST

START_TEST(without_a_stream_there_are_none) {
    call(DEAD_LETTERS_LIST, &(struct dead_letters_selector){0}, "", 100);
    ck_assert_int_eq(page.total, 0);
    RAW("SET", DEAD_LETTERS_KEY, "in the way");
    call(DEAD_LETTERS_DROP, &(struct dead_letters_selector){0}, "", 100);
    ck_assert_int_eq(page.matched, 0);
    dead_letters_page_fini(&page);
}
END_TEST

static void add_tests(TCase *tcase) {
    tcase_add_loop_test(tcase, a_selector_selects, 0, sizeof selections / sizeof selections[0]);
    tcase_add_test(tcase, pages_follow_each_other);
    tcase_add_test(tcase, one_call_does_bounded_work);
    tcase_add_test(tcase, one_call_looks_at_about_four_megabytes);
    tcase_add_test(tcase, without_a_stream_there_are_none);
}

int main(void) {
    return fixture_run("dead letters", add_tests);
}
