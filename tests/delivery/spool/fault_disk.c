/* A disk that fails: preloaded into a process, it makes system calls on files below SPOOL_FAULT_PATH fail or kill it.
 *
 * SPOOL_FAULT_CALL   the call, by the name below, or "any"
 * SPOOL_FAULT_ERRNO  what it fails with; 0: the process is killed, in half of a write
 * SPOOL_FAULT_AFTER  how many calls pass first
 * SPOOL_FAULT_WHILE  a file: only while it exists (empty: always)
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int below(int descriptor, const char *path) {
    const char *root = getenv("SPOOL_FAULT_PATH");
    if (root == NULL) return 0;
    if (path != NULL && path[0] == '/') return strncmp(path, root, strlen(root)) == 0;
    char link[64], target[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, target, sizeof target - 1);
    if (length < 0) return 0;
    target[length] = 0;
    return strncmp(target, root, strlen(root)) == 0;
}

static int fails(const char *call, int descriptor, const char *path) {
    static int passed = 0;
    const char *wanted = getenv("SPOOL_FAULT_CALL"), *during = getenv("SPOOL_FAULT_WHILE");
    if (wanted == NULL || (strcmp(wanted, call) && strcmp(wanted, "any"))) return 0;
    if (!below(descriptor, path)) return 0;
    if (during != NULL && *during && syscall(SYS_faccessat, AT_FDCWD, during, F_OK) != 0) return 0;
    const char *after = getenv("SPOOL_FAULT_AFTER"), *error = getenv("SPOOL_FAULT_ERRNO");
    if (passed++ < (after ? atoi(after) : 0)) return 0;
    errno = error ? atoi(error) : EIO;
    return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAIL(call, descriptor, path) \
    if (fails(call, descriptor, path)) { if (errno == 0) raise(SIGKILL); return -1; }

ssize_t pwrite64(int descriptor, const void *data, size_t length, off64_t offset) {
    if (fails("pwrite", descriptor, NULL)) {
        int error = errno;
        /* A disk that fills up takes a part, and so does one whose process dies. */
        REAL(pwrite64)(descriptor, data, length / 2, offset);
        if (error == 0) raise(SIGKILL);
        errno = error;
        return -1;
    }
    return REAL(pwrite64)(descriptor, data, length, offset);
}
ssize_t pread64(int descriptor, void *data, size_t length, off64_t offset) {
    FAIL("pread", descriptor, NULL)
    return REAL(pread64)(descriptor, data, length, offset);
}
int fsync(int descriptor) { FAIL("fsync", descriptor, NULL) return REAL(fsync)(descriptor); }
int fdatasync(int descriptor) { FAIL("fsync", descriptor, NULL) return REAL(fdatasync)(descriptor); }
int ftruncate64(int descriptor, off64_t length) {
    FAIL("ftruncate", descriptor, NULL)
    return REAL(ftruncate64)(descriptor, length);
}
int fchmod(int descriptor, mode_t mode) { FAIL("fchmod", descriptor, NULL) return REAL(fchmod)(descriptor, mode); }
int flock(int descriptor, int operation) { FAIL("flock", descriptor, NULL) return REAL(flock)(descriptor, operation); }
int unlinkat(int directory, const char *path, int flags) {
    FAIL("unlink", directory, path)
    return REAL(unlinkat)(directory, path, flags);
}
int renameat(int from, const char *old, int to, const char *new) {
    FAIL("rename", from, old)
    return REAL(renameat)(from, old, to, new);
}
int mkdirat(int directory, const char *path, mode_t mode) {
    FAIL("mkdir", directory, path)
    return REAL(mkdirat)(directory, path, mode);
}
int openat64(int directory, const char *path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = va_arg(arguments, mode_t);
    va_end(arguments);
    FAIL("open", directory, path)
    return REAL(openat64)(directory, path, flags, mode);
}
