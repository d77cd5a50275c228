/* Owns the reading of symbol tables: .symtab if the file has it (only there are static functions),
 * else .dynsym. One thread. Checks every offset of a file against its length. */
#include "profile/symbols.h"

#include <elf.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MODULES_MAX 256

struct symbol {
    uintptr_t begin, size; /* in the module, as linked */
    const char *name;      /* in the mapped file */
};

struct image {
    uintptr_t base; /* offset between addresses in the file and in memory */
    const char *file;
    size_t file_len;
    struct symbol *symbols; /* sorted by address */
    size_t count;
};

struct symbols {
    struct module modules[MODULES_MAX];
    struct image images[MODULES_MAX];
    size_t count;
};

/* ---- one file -------------------------------------------------------------------------------- */

static int symbols_compare_address(const void *left, const void *right) {
    const struct symbol *a = left, *b = right;
    return a->begin < b->begin ? -1 : a->begin > b->begin;
}

static bool symbols_range_fits(const struct image *image, size_t offset, size_t len) {
    return offset <= image->file_len && len <= image->file_len - offset;
}

static const ElfW(Shdr) * symbols_find_section(const struct image *image, unsigned type) {
    const ElfW(Ehdr) *header = (const void *)image->file;
    if (!symbols_range_fits(image, 0, sizeof *header) ||
        memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 ||
        header->e_shentsize != sizeof(ElfW(Shdr)) || header->e_shoff % 8 != 0 ||
        !symbols_range_fits(image, header->e_shoff, (size_t)header->e_shnum * sizeof(ElfW(Shdr)))) {
        return NULL;
    }
    const ElfW(Shdr) *sections = (const void *)(image->file + header->e_shoff);
    for (size_t i = 0; i < header->e_shnum; i++) {
        if (sections[i].sh_type == type && sections[i].sh_link < header->e_shnum &&
            sections[i].sh_offset % 8 == 0 &&
            symbols_range_fits(image, sections[i].sh_offset, sections[i].sh_size)) {
            const ElfW(Shdr) *names = &sections[sections[i].sh_link];
            bool ended = names->sh_size > 0 &&
                         symbols_range_fits(image, names->sh_offset, names->sh_size) &&
                         image->file[names->sh_offset + names->sh_size - 1] == '\0';
            return ended ? &sections[i] : NULL;
        }
    }
    return NULL;
}

static void symbols_read_table(struct image *image) {
    const ElfW(Shdr) *table = symbols_find_section(image, SHT_SYMTAB);
    table = table ? table : symbols_find_section(image, SHT_DYNSYM);
    if (!table) {
        return;
    }
    const ElfW(Ehdr) *header = (const void *)image->file;
    const ElfW(Shdr) *names =
        (const ElfW(Shdr) *)(const void *)(image->file + header->e_shoff) + table->sh_link;
    const ElfW(Sym) *rows = (const void *)(image->file + table->sh_offset);
    size_t count = table->sh_size / sizeof *rows;
    image->symbols = malloc((count + 1) * sizeof *image->symbols);
    for (size_t i = 0; image->symbols && i < count; i++) {
        unsigned type = ELF64_ST_TYPE(rows[i].st_info);
        if ((type == STT_FUNC || type == STT_GNU_IFUNC) && rows[i].st_value != 0 &&
            rows[i].st_name < names->sh_size) {
            image->symbols[image->count++] =
                (struct symbol){rows[i].st_value, rows[i].st_size,
                                image->file + names->sh_offset + rows[i].st_name};
        }
    }
    if (image->count > 0) {
        qsort(image->symbols, image->count, sizeof *image->symbols, symbols_compare_address);
    }
}

/* "" if there is none. */
static void symbols_read_build_id(const char *notes, size_t len, char out[BUILD_ID_LEN]) {
    for (size_t at = 0; at + sizeof(ElfW(Nhdr)) <= len;) {
        const ElfW(Nhdr) *note = (const void *)(notes + at);
        size_t name_len = (note->n_namesz + 3u) & ~3u, id_len = note->n_descsz;
        size_t end = at + sizeof *note + name_len + ((id_len + 3u) & ~3u);
        if (end > len || end <= at) {
            return;
        }
        const unsigned char *id = (const unsigned char *)(note + 1) + name_len;
        if (note->n_type == NT_GNU_BUILD_ID && note->n_namesz == 4 && id_len * 2 < BUILD_ID_LEN) {
            for (size_t i = 0; i < id_len; i++) {
                snprintf(out + 2 * i, 3, "%02x", id[i]);
            }
        }
        at = end;
    }
}

/* Another version may have replaced the file after it was loaded, with other symbols. */
static bool symbols_matches_build_id(const struct image *image, const char *build_id) {
    const ElfW(Ehdr) *header = (const void *)image->file;
    char found[BUILD_ID_LEN] = "";
    if (build_id[0] == '\0') {
        return true;
    }
    if (!symbols_range_fits(image, 0, sizeof *header) ||
        header->e_phentsize != sizeof(ElfW(Phdr)) || header->e_phoff % 8 != 0 ||
        !symbols_range_fits(image, header->e_phoff, (size_t)header->e_phnum * sizeof(ElfW(Phdr)))) {
        return false;
    }
    const ElfW(Phdr) *parts = (const void *)(image->file + header->e_phoff);
    for (size_t i = 0; i < header->e_phnum; i++) {
        if (parts[i].p_type == PT_NOTE && parts[i].p_offset % 4 == 0 &&
            symbols_range_fits(image, parts[i].p_offset, parts[i].p_filesz)) {
            symbols_read_build_id(image->file + parts[i].p_offset, parts[i].p_filesz, found);
        }
    }
    return strcmp(found, build_id) == 0;
}

static void symbols_open_image(struct image *image, const char *path, const char *build_id) {
    struct stat status;
    /* The kernel's own library has a name but no file. A file with that name is a different one. */
    int fd = path[0] == '/' ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) {
        return;
    }
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0) {
        void *file = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (file != MAP_FAILED) {
            image->file = file;
            image->file_len = (size_t)status.st_size;
            if (symbols_matches_build_id(image, build_id)) {
                symbols_read_table(image);
            }
        }
    }
    close(fd);
}

/* ---- loaded modules -------------------------------------------------------------------------- */

static int symbols_add_module(struct dl_phdr_info *info, size_t size, void *argument) {
    struct symbols *symbols = argument;
    char program[PATH_MAX] = "";
    (void)size;
    if (symbols->count == MODULES_MAX) {
        return 1;
    }
    bool is_program = info->dlpi_name[0] == '\0';
    if (is_program) {
        ssize_t len = readlink("/proc/self/exe", program, sizeof(program) - 1);
        program[len > 0 ? len : 0] = '\0';
    }
    struct module *module = &symbols->modules[symbols->count];
    struct image *image = &symbols->images[symbols->count];
    image->base = info->dlpi_addr;
    for (size_t i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        uintptr_t begin = info->dlpi_addr + part->p_vaddr;
        if (part->p_type == PT_LOAD && (part->p_flags & PF_X) != 0 && module->end == 0) {
            module->begin = begin;
            module->end = begin + part->p_memsz;
            module->offset = part->p_offset;
        } else if (part->p_type == PT_NOTE) {
            symbols_read_build_id((const char *)begin, part->p_memsz, module->build_id);
        }
    }
    module->path = strdup(is_program ? program : info->dlpi_name);
    if (module->end == 0 || !module->path) {
        free(module->path);
        memset(module, 0, sizeof *module);
        return 0;
    }
    symbols->count++;
    return 0;
}

struct symbols *symbols_open(void) {
    struct symbols *symbols = calloc(1, sizeof *symbols);
    if (!symbols) {
        return NULL;
    }
    dl_iterate_phdr(symbols_add_module, symbols);
    for (size_t i = 0; i < symbols->count; i++) {
        /* The program's own file, even after it was replaced. */
        symbols_open_image(&symbols->images[i],
                           i == 0 ? "/proc/self/exe" : symbols->modules[i].path,
                           symbols->modules[i].build_id);
    }
    return symbols;
}

void symbols_close(struct symbols *symbols) {
    for (size_t i = 0; symbols && i < symbols->count; i++) {
        free(symbols->modules[i].path);
        free(symbols->images[i].symbols);
        if (symbols->images[i].file) {
            munmap((void *)(uintptr_t)symbols->images[i].file, symbols->images[i].file_len);
        }
    }
    free(symbols);
}

const struct module *symbols_modules(const struct symbols *symbols, size_t *count) {
    *count = symbols->count;
    return symbols->modules;
}

/* The last symbol that starts at or before the address. */
static const char *symbols_find_in_image(const struct image *image, uintptr_t address) {
    size_t low = 0, high = image->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (image->symbols[middle].begin <= address) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == 0) {
        return NULL;
    }
    const struct symbol *symbol = &image->symbols[low - 1];
    bool inside = symbol->size == 0 || address - symbol->begin < symbol->size;
    return inside ? symbol->name : NULL;
}

const char *symbols_name(const struct symbols *symbols, uintptr_t address) {
    for (size_t i = 0; i < symbols->count; i++) {
        if (address >= symbols->modules[i].begin && address < symbols->modules[i].end) {
            return symbols_find_in_image(&symbols->images[i], address - symbols->images[i].base);
        }
    }
    return NULL;
}
