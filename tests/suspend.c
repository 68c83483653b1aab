// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * suspend: a suspend of the devices that were registered last.
 *
 * The lab's guest would not survive a whole one: its root is on virtio-9p,
 * which cannot resume. Devices are suspended in the reverse order of their
 * registration, however, and the alarmtimer device refuses when an alarm is
 * due within two seconds; what was suspended before it is resumed then. So a
 * PCI function that was removed and found again goes through both.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

static int set(const char *file, const char *value)
{
	int fd = open(file, O_WRONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -1;
	n = write(fd, value, strlen(value));
	close(fd);
	return n == (ssize_t)strlen(value) ? 0 : -1;
}

/*
 * One alarm for each second of the next minute: none repeats before somebody has
 * read it, and how long it takes to get to the alarmtimer is the machine's matter.
 */
static int set_alarms(void)
{
	for (int second = 1; second <= 60; second++) {
		const struct itimerspec once = { .it_value = { second, 0 } };
		int alarm = timerfd_create(CLOCK_BOOTTIME_ALARM, TFD_CLOEXEC);

		if (alarm < 0 || timerfd_settime(alarm, 0, &once, NULL))
			return -1;
	}
	return 0;
}

int main(void)
{
	if (set_alarms()) {
		perror("suspend: alarm timer");
		return EXIT_FAILURE;
	}
	/* One device at a time, and not beyond devices in any case. */
	if (set("/sys/power/pm_async", "0") ||
	    set("/sys/power/pm_test", "devices")) {
		perror("suspend: /sys/power");
		return EXIT_FAILURE;
	}
	if (!set("/sys/power/state", "freeze") || errno != EBUSY) {
		fprintf(stderr, "suspend: the alarm did not end it\n");
		return EXIT_FAILURE;
	}
	return EXIT_SUCCESS;
}
