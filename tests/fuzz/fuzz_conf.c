/* Fuzzes a node's settings file, and the same text as --set. Each fault is one line of UTF-8, and
 * valid settings can be printed and read again. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "base/config/conf.h"
#include "base/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_fault(const char *fault) {
    assert(fault[0] != '\0' && strlen(fault) < CONF_FAULT_LEN);
    assert(!strchr(fault, '\r') && fault[0] != '\n' && !strstr(fault, "\n\n"));
    assert(fault[strlen(fault) - 1] != '\n');
    assert(text_is_utf8(fault, strlen(fault)));
}

/* The path of a file in memory that holds the data. */
static int file_of(const void *data, size_t size, char path[64]) {
    int fd = memfd_create("conf", 0);
    assert(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    snprintf(path, 64, "/proc/self/fd/%d", fd);
    return fd;
}

static void check_again(const struct conf *conf) {
    char *printed = NULL, path[64], fault[CONF_FAULT_LEN] = "";
    size_t len = 0;
    FILE *out = open_memstream(&printed, &len);
    assert(out);
    conf_print(conf, out);
    fclose(out);
    int fd = file_of(printed, len, path);
    struct conf *again = NULL;
    /* A secret is printed as ***, which need not be a valid value itself. */
    if (conf_load(&again, path, NULL, 0, fault) != ERR_OK) {
        check_fault(fault);
        assert(strstr(printed, "***"));
    }
    conf_destroy(again);
    close(fd);
    free(printed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char path[64], fault[CONF_FAULT_LEN] = "";
    struct conf *conf = NULL;
    int fd = file_of(data, size, path);
    if (conf_load(&conf, path, NULL, 0, fault) == ERR_OK) {
        check_again(conf);
    } else {
        check_fault(fault);
    }
    conf_destroy(conf);
    close(fd);
    char *set = text_copy(data, size);
    const char *sets[] = {set};
    conf = NULL;
    if (conf_load(&conf, NULL, sets, 1, fault) != ERR_OK) {
        check_fault(fault);
    }
    conf_destroy(conf);
    free(set);
    return 0;
}
