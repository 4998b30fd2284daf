/* Kills the process before its nth call that changes a disk. Preloaded by tests/faults/points.py.
   FAULT_POINTS names a file of one page that tests share with the process. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

struct page { int armed, count, kill_at; char name[32]; };
static volatile struct page *page;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAULT_POINTS");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *mapped = mmap(0, sizeof(struct page), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED) page = mapped;
    close(file);
}

static void point(const char *name) {
    if (!page || !page->armed) return;
    if (__sync_add_and_fetch(&page->count, 1) != page->kill_at) return;
    snprintf((char *)page->name, sizeof page->name, "%s", name);
    kill(getpid(), SIGKILL);
    pause();
}

static int regular(int file) {
    struct stat status;
    return page && page->armed && fstat(file, &status) == 0 && S_ISREG(status.st_mode);
}

#define WRAP(kind, name, types, values, when) \
    kind name types { \
        static kind (*next) types; \
        if (!next) next = dlsym(RTLD_NEXT, #name); \
        if (when) point(#name); \
        return next values; \
    }

WRAP(int, fsync, (int f), (f), 1)
WRAP(int, fdatasync, (int f), (f), 1)
WRAP(int, rename, (const char *a, const char *b), (a, b), 1)
WRAP(int, renameat, (int d, const char *a, int e, const char *b), (d, a, e, b), 1)
WRAP(int, link, (const char *a, const char *b), (a, b), 1)
WRAP(int, linkat, (int d, const char *a, int e, const char *b, int g), (d, a, e, b, g), 1)
WRAP(int, unlink, (const char *a), (a), 1)
WRAP(int, unlinkat, (int d, const char *a, int g), (d, a, g), 1)
WRAP(int, ftruncate64, (int f, off64_t n), (f, n), 1)
WRAP(ssize_t, write, (int f, const void *b, size_t n), (f, b, n), regular(f))
WRAP(ssize_t, pwrite, (int f, const void *b, size_t n, off_t o), (f, b, n, o), 1)
WRAP(ssize_t, pwrite64, (int f, const void *b, size_t n, off64_t o), (f, b, n, o), 1)
WRAP(ssize_t, pwritev, (int f, const struct iovec *v, int n, off_t o), (f, v, n, o), 1)
WRAP(ssize_t, pwritev64, (int f, const struct iovec *v, int n, off64_t o), (f, v, n, o), 1)
WRAP(ssize_t, pwritev2, (int f, const struct iovec *v, int n, off_t o, int g), (f, v, n, o, g), 1)
WRAP(ssize_t, pwritev64v2, (int f, const struct iovec *v, int n, off64_t o, int g), (f, v, n, o, g), 1)
