/*
 * Preloaded into the daemon: every third write of more than 16 bytes writes only a part of it, as a signal, a nearly full
 * disk or a full socket buffer does. Nothing is invented: what it says was written was written.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

static unsigned calls;

static size_t part(size_t length) { return length > 16 && ++calls % 3 == 0 ? length / 2 + 1 : length; }

static int is_socket(int fd) {
	int type;
	socklen_t size = sizeof type;
	return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0;
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
	static ssize_t (*next)(int, const void *, size_t, off64_t);
	if (!next) next = dlsym(RTLD_NEXT, "pwrite64");
	return next(fd, bytes, part(length), offset);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) { return pwrite64(fd, bytes, length, offset); }

ssize_t write(int fd, const void *bytes, size_t length) {
	static ssize_t (*next)(int, const void *, size_t);
	if (!next) next = dlsym(RTLD_NEXT, "write");
	return next(fd, bytes, is_socket(fd) ? part(length) : length);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
	static ssize_t (*next)(int, const struct iovec *, int);
	if (!next) next = dlsym(RTLD_NEXT, "writev");
	if (count < 1 || !is_socket(fd)) return next(fd, parts, count);
	struct iovec first = parts[0];
	first.iov_len = part(first.iov_len);
	return first.iov_len == parts[0].iov_len ? next(fd, parts, count) : next(fd, &first, 1);
}
