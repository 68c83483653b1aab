// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * Source and target: files and block devices, by O_DIRECT.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <linux/fs.h>

#include "copy.h"

/* What O_DIRECT says when the drive does not reach the memory. */
static const char *remedy(const struct copy *copy, int error)
{
	if (copy->options->through && (error == EREMOTEIO || error == EINVAL))
		return ": does the drive reach the memory? see iopmem topo";
	if (copy->options->through && error == EFAULT)
		return ": the memory has been taken away, or the drive's driver does not take such memory";
	return "";
}

static int open_direct(struct copy *copy, int flags, uint64_t *size)
{
	const char *path = copy->options->file;
	struct stat st;
	bool exists = !stat(path, &st);

	if (exists && !S_ISBLK(st.st_mode) && !S_ISREG(st.st_mode))
		return fail(copy, "%s: neither a file nor a block device",
			    path);
	/* a device that is mounted is not to be written over */
	if (exists && S_ISBLK(st.st_mode) && flags & O_CREAT)
		flags = (flags & ~O_CREAT) | O_EXCL;
	copy->file = open(path, flags | O_DIRECT | O_CLOEXEC, 0666);
	if (copy->file < 0)
		return fail(copy, "%s: %s%s", path, strerror(errno),
			    errno == EINVAL ?
			    ": its file system has no O_DIRECT" : "");
	if (fstat(copy->file, &st))
		return fail(copy, "%s: %s", path, strerror(errno));
	copy->is_block_device = S_ISBLK(st.st_mode);
	*size = st.st_size;
	if (copy->is_block_device && ioctl(copy->file, BLKGETSIZE64, size))
		return fail(copy, "%s: %s", path, strerror(errno));
	return 0;
}

int open_source(struct copy *copy)
{
	return open_direct(copy, O_RDONLY, &copy->size);
}

int open_target(struct copy *copy)
{
	uint64_t size;

	return open_direct(copy, O_WRONLY | O_CREAT, &size);
}

/* A full disk is better found before than after hours. */
static int reserve_space(struct copy *copy)
{
	const char *path = copy->options->file;
	struct stat st;
	int error;

	if (fstat(copy->file, &st))
		return fail(copy, "%s: %s", path, strerror(errno));
	if (!copy->size || !fallocate(copy->file, FALLOC_FL_KEEP_SIZE, 0,
				      copy->size))
		return 0;
	error = errno;
	if (error == EOPNOTSUPP)
		return 0;
	/* what there was of it is given back */
	if (ftruncate(copy->file, st.st_size))
		error = errno;
	return fail(copy, "%s: %" PRIu64 " bytes needed: %s", path,
		    copy->size, strerror(error));
}

/* Nothing of the target is touched if the data cannot fit. */
int prepare_target(struct copy *copy)
{
	const char *path = copy->options->file;
	uint64_t size = 0;
	int sector = 0;

	if (copy->is_block_device) {
		if (ioctl(copy->file, BLKGETSIZE64, &size) ||
		    ioctl(copy->file, BLKSSZGET, &sector))
			return fail(copy, "%s: %s", path, strerror(errno));
		if (size < copy->size)
			return fail(copy, "%s is too small: %" PRIu64 " bytes needed, %" PRIu64 " available",
				    path, copy->size, size);
		if (copy->size % sector)
			return fail(copy, "%" PRIu64 " bytes are not whole blocks of %s (%d bytes)",
				    copy->size, path, sector);
		return 0;
	}
	return reserve_space(copy);
}

int read_block(struct slot *slot)
{
	struct copy *copy = slot->copy;
	uint64_t offset = slot->block * copy->block, done = 0;

	/* The end of a file need not be that of a block. */
	while (done < slot->length) {
		ssize_t n = pread(copy->file, slot_memory(slot) + done,
				  copy->block - done, offset + done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail(copy, "reading %s at %" PRIu64 ": %s%s",
				    copy->options->file, offset + done,
				    strerror(errno), remedy(copy, errno));
		done += n;
		if (done < slot->length && (!n || done % ALIGNMENT))
			return fail(copy, "%s ends at %" PRIu64 ": it has become shorter",
				    copy->options->file, offset + done);
	}
	return 0;
}

int write_block(struct slot *slot)
{
	struct copy *copy = slot->copy;
	uint64_t offset = slot->block * copy->block, done = 0;
	uint64_t length = slot->length;

	/* A file is cut to its length in the end. */
	if (!copy->is_block_device)
		length = (length + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
	while (done < length) {
		ssize_t n = pwrite(copy->file, slot_memory(slot) + done,
				   length - done, offset + done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return fail(copy, "writing %s at %" PRIu64 ": %s%s",
				    copy->options->file, offset + done,
				    strerror(n ? errno : ENOSPC),
				    remedy(copy, n ? errno : 0));
		done += n;
	}
	return 0;
}

int finish_target(struct copy *copy)
{
	if (!copy->is_block_device && ftruncate(copy->file, copy->size))
		return fail(copy, "cutting %s to %" PRIu64 " bytes: %s",
			    copy->options->file, copy->size, strerror(errno));
	if (fsync(copy->file))
		return fail(copy, "%s: %s", copy->options->file,
			    strerror(errno));
	return 0;
}
