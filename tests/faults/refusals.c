/* Refuses writes to files as a full quota does, while FAULT_REFUSALS names something that exists; a symbolic
   link to a file that is given up frees room in that moment. Preloaded by tests/faults/refusals.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static int refused(int file) {
    struct stat status;
    const char *path = getenv("FAULT_REFUSALS");
    return path && access(path, F_OK) == 0 && fstat(file, &status) == 0 && S_ISREG(status.st_mode);
}

#define WRAP(kind, name, types, values, refusal) \
    kind name types { \
        static kind (*next) types; \
        int kept = errno; \
        if (!next) next = dlsym(RTLD_NEXT, #name); \
        if (refused(f)) { refusal; } \
        errno = kept; \
        return next values; \
    }
#define REFUSE errno = EDQUOT; return -1

WRAP(ssize_t, write, (int f, const void *b, size_t n), (f, b, n), REFUSE)
WRAP(ssize_t, pwrite, (int f, const void *b, size_t n, off_t o), (f, b, n, o), REFUSE)
WRAP(ssize_t, pwrite64, (int f, const void *b, size_t n, off64_t o), (f, b, n, o), REFUSE)
WRAP(ssize_t, pwritev, (int f, const struct iovec *v, int n, off_t o), (f, v, n, o), REFUSE)
WRAP(ssize_t, pwritev64, (int f, const struct iovec *v, int n, off64_t o), (f, v, n, o), REFUSE)
WRAP(ssize_t, pwritev2, (int f, const struct iovec *v, int n, off_t o, int g), (f, v, n, o, g), REFUSE)
WRAP(ssize_t, pwritev64v2, (int f, const struct iovec *v, int n, off64_t o, int g), (f, v, n, o, g), REFUSE)
WRAP(int, posix_fallocate, (int f, off_t o, off_t n), (f, o, n), return EDQUOT)
WRAP(int, posix_fallocate64, (int f, off64_t o, off64_t n), (f, o, n), return EDQUOT)
