#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
"""./lab run and ./lab shell: build what is needed, boot a guest, judge it."""

import argparse
import ctypes
import fcntl
import hashlib
import json
import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
import tty
import zlib

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(ROOT, "build")
RUNS = os.path.join(BUILD, "run")

# Exit codes of ours, beside those of the command.
TIMEOUT, NO_STATUS, BAD_KERNEL = 124, 98, 99

# -cpu decides whether the kernel lets peers talk through the host bridge:
# it trusts AMD's from Zen on, and of Intel's only a few it knows by PCI ID.
TOPOLOGIES = {
	"switch": "Skylake-Server",
	"bridge": "EPYC",
	"blocked": "Skylake-Server",
	"iommu": "EPYC",
}
KERNELS = ("patched", "debug", "vanilla")

# Any of these in the console is a fault of the kernel, whatever the command
# returned. "Call Trace:" is not here: fault injection prints it on purpose.
FAULTS = re.compile(
	r"Kernel panic|\bOops\b|\bBUG:|kernel BUG at|\bWARNING:|\bUBSAN:"
	r"|Unable to handle|kmemleak: (Memory pool empty|Cannot (?!allocate a scan area))"
	r"|Kernel memory leak detector disabled"
	r"|INFO: task .* blocked for more than|rcu: INFO: |refcount_t: "
	r"|INFO: possible |INFO: trying to register|DEBUG_LOCKS_WARN_ON"
	r"|possible circular locking|inconsistent lock state"
	r"|suspicious RCU usage|unreferenced object|new suspected memory leaks"
	r"|sleeping function called|scheduling while atomic"
	r"|workqueue lockup|ODEBUG: |list_(add|del) corruption"
	r"|Bad page (state|map)|Out of memory: Killed|stack-protector")


class Stop(Exception):
	"""A signal asks us to end."""


def say(text):
	print(f"lab: {text}", file=sys.stderr)


def relative(path):
	return os.path.relpath(path)


class Parser(argparse.ArgumentParser):
	def error(self, message):
		say(f"{message} (see ./lab --help)")
		sys.exit(2)


def parse(argv):
	parser = Parser(prog="./lab", allow_abbrev=False, add_help=False)
	parser.add_argument("mode", choices=("run", "shell"))
	parser.add_argument("--topology", choices=TOPOLOGIES, default="switch")
	parser.add_argument("--kernel", choices=KERNELS, default="patched")
	parser.add_argument("--cpu")
	parser.add_argument("--smp", type=int)
	parser.add_argument("--memory", type=int, metavar="MIB")
	parser.add_argument("--bar-size", type=int, default=64, metavar="MIB")
	parser.add_argument("--nodes", type=int, choices=(1, 2), default=1)
	parser.add_argument("--timeout", type=float, metavar="S")
	parser.add_argument("--icount", action="store_true")
	parser.add_argument("--append", action="append", default=[])
	parser.add_argument("--image", metavar="FILE")
	parser.add_argument("--own-kernel", metavar="FOLDER")
	parser.add_argument("--name")
	parser.add_argument("--no-build", action="store_true")
	end = argv.index("--") if "--" in argv else len(argv)
	args, rest = parser.parse_known_args(argv[:end])
	if rest and rest[0].startswith("-"):
		parser.error(f"unknown option {rest[0]}")
	if rest:
		parser.error(f"put -- before the command: -- {rest[0]} ...")
	args.command = argv[end + 1:]
	if args.mode == "run" and not args.command:
		parser.error("run: no command given")
	if args.bar_size < 1 or args.bar_size & (args.bar_size - 1):
		parser.error("--bar-size: a BAR's size is a power of two")
	if args.image and args.mode == "shell":
		parser.error("--image: run only")
	if args.image and not os.path.isfile(args.image):
		parser.error(f"--image: there is no file {args.image}")
	if args.own_kernel and not args.image:
		parser.error("--own-kernel: with --image only")
	if args.name and not re.fullmatch(r"[A-Za-z0-9][\w.-]*", args.name):
		parser.error(f"--name: {args.name!r} cannot name a folder")
	if args.icount and args.smp not in (None, 1):
		parser.error("--icount works with one CPU only")
	if args.nodes == 2 and (args.image or args.icount):
		parser.error("--nodes 2 does not go with --image or --icount")
	if args.smp is None:
		args.smp = 1 if args.icount else 2
	if args.memory is None:
		# KASAN's shadow and quarantine take their part
		args.memory = 3072 if args.kernel == "debug" else 2048
	if args.timeout is None:
		args.timeout = 900 if args.mode == "run" else 0
	if not args.command:
		args.command = ["bash", "-i"]
	return args


def build(kernel):
	"""What the guest will use, brought up to date."""
	child = subprocess.Popen([os.path.join(ROOT, "lab"), "build", kernel,
				  f"modules-{kernel}", "user", "perftest"],
				 stdin=subprocess.DEVNULL)
	try:
		if child.wait():
			sys.exit(child.returncode)
	except Stop:
		child.terminate()
		child.wait()
		raise


def kernel_image(kernel):
	return os.path.join(BUILD, "kernel", kernel, "bzImage")


def boot_files(args):
	"""The kernel, and with a distribution's its initrd."""
	if args.own_kernel:
		return [os.path.join(args.own_kernel, name)
			for name in ("vmlinuz", "initrd.img")]
	return [kernel_image(args.kernel)]


def make_folder(name):
	"""The folder of this run, locked for as long as we live."""
	path = os.path.join(RUNS, name)
	os.makedirs(path, exist_ok=True)
	lock = os.open(os.path.join(path, ".lock"), os.O_CREAT | os.O_RDWR)
	try:
		fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
	except BlockingIOError:
		say(f"run {name} is still going on")
		sys.exit(1)
	for entry in os.scandir(path):
		if entry.is_dir(follow_symlinks=False):
			shutil.rmtree(entry)
		elif entry.name != ".lock":
			os.unlink(entry)
	return path


def forget_old_runs(keep=10):
	"""Runs that were given no name are kept for a while only."""
	old = [e for e in os.scandir(RUNS) if re.fullmatch(r"pid\d+(-kvm)?", e.name)]
	old.sort(key=lambda e: e.stat().st_mtime, reverse=True)
	for entry in old[keep:]:
		try:
			with open(os.path.join(entry.path, ".lock")) as lock:
				fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
				shutil.rmtree(entry.path)
		except OSError:
			pass	# in use, or being removed by another ./lab


class Qmp:
	"""QEMU's control socket."""

	def __init__(self, sock):
		self.sock = sock
		self.buffer = b""
		self.events = []
		self.receive()		# the greeting
		self.command("qmp_capabilities")

	def receive(self):
		while b"\n" not in self.buffer:
			data = self.sock.recv(65536)
			if not data:
				raise RuntimeError("QEMU is gone")
			self.buffer += data
		line, self.buffer = self.buffer.split(b"\n", 1)
		return json.loads(line)

	def command(self, name, arguments=None):
		self.sock.settimeout(60)
		message = {"execute": name, "arguments": arguments or {}}
		self.sock.sendall(json.dumps(message).encode() + b"\n")
		while True:
			answer = self.receive()
			if "event" in answer:
				self.events.append(answer)
			elif "error" in answer:
				raise RuntimeError(answer["error"]["desc"])
			else:
				return answer["return"]

	def wait_event(self, name, device, seconds):
		end = time.monotonic() + seconds
		while True:
			for event in self.events:
				if (event["event"] == name and
				    event["data"].get("device") == device):
					return
			self.events.clear()
			self.sock.settimeout(max(end - time.monotonic(), 0.01))
			try:
				self.events.append(self.receive())
			except TimeoutError:
				raise RuntimeError(f"no {name} in {seconds} s")


class Guest:
	"""
	One QEMU, its files and its channels: node 1, which runs the command,
	or node 2. Wires are sockets, each the end of a network between them.
	"""

	def __init__(self, args, folder, node=1, wires=()):
		self.args = args
		self.folder = folder
		self.node = node
		self.wires = wires
		self.out = os.path.join(folder, "out")
		os.makedirs(self.out)
		self.console = os.path.join(folder, "console.log")
		self.trace = os.path.join(folder, "trace.log")
		self.traced = {}	# where in it what was counted began
		self.token = secrets.token_hex(16).encode()
		self.devices = {}	# by QEMU id: device_add's arguments
		self.memories = {}	# by QEMU id: object-add's arguments
		self.process = None
		self.relays = []
		self.terminal = None	# settings to restore

	# ---- what the guest consists of

	def root(self):
		"""
		Options and kernel arguments: the host's root, or an image and
		its own init, which systemd then has run what we want.
		"""
		if not self.args.image:
			return [], ("root=root rootfstype=9p rootflags=trans=virtio,"
				    "version=9p2000.L,msize=512000,cache=loose ro "
				    f"init={ROOT}/buildlib/guest/init")
		host = "/run/lab/host"
		# the image stays as it is
		return (["-drive", "if=virtio,format=raw,snapshot=on,file=" +
			 self.args.image.replace(",", ",,")],
			"root=/dev/vda rw init=/lib/systemd/systemd "
			'systemd.run="/bin/mount -m -t 9p -o trans=virtio,'
			f'version=9p2000.L,ro root {host}" '
			f'systemd.run="{host}{ROOT}/buildlib/guest/installed"')

	def image(self, name, mib):
		"""A fresh sparse file of zeros."""
		path = os.path.join(self.folder, name + ".img")
		with open(path, "wb") as file:
			file.truncate(mib << 20)
		return path

	def add_device(self, driver, **properties):
		device = {"driver": driver, **properties}
		self.devices[device["id"]] = device
		return ["-device", json.dumps(device)]

	def slots(self):
		"""Options and buses of the five places where devices go."""
		argv = []
		driver, parent = "pcie-root-port", "pcie.0"
		if self.args.topology == "switch":
			argv += self.add_device(driver, id="port0", bus=parent,
						chassis=1, slot=1)
			argv += self.add_device("x3130-upstream", id="up",
						bus="port0")
			driver, parent = "xio3130-downstream", "up"
		buses = [f"port{i}" for i in range(1, 6)]
		for number, bus in enumerate(buses, 2):
			argv += self.add_device(driver, id=bus, bus=parent,
						chassis=number, slot=number)
		return argv, buses

	def test_devices(self):
		argv, buses = self.slots()
		for i in range(2):
			memory = {
				"qom-type": "memory-backend-file",
				"id": f"mem-bar{i}",
				"share": True,
				"size": self.args.bar_size << 20,
				"mem-path": self.image(f"bar{i}",
						       self.args.bar_size),
			}
			self.memories[f"bar{i}"] = memory
			argv += ["-object", json.dumps(memory)]
			argv += self.add_device("ivshmem-plain", id=f"bar{i}",
						bus=buses[i],
						memdev=memory["id"])
		for i in range(2):
			path = self.image(f"nvme{i}", 64 if i == 0 else 256)
			argv += ["-blockdev", "driver=raw,file.driver=file,"
				 f"node-name=disk{i},file.filename={path}"]
			extra = {"cmb_size_mb": 64} if i == 0 else {}
			argv += self.add_device("nvme", id=f"nvme{i}",
						bus=buses[2 + i],
						drive=f"disk{i}",
						serial=f"lab{i}", **extra)
		# reaches all of memory, not just QEMU's default of 28 bits
		argv += self.add_device("edu", id="edu", bus=buses[4],
					dma_mask=(1 << 64) - 1)
		return argv

	def network_cards(self):
		"""The guest's eth0, eth1..."""
		argv = []
		for number, wire in enumerate(self.wires):
			# RoCE needs more than 4096 bytes for its largest MTU
			argv += ["-netdev", f"socket,id=net{number},"
				 f"fd={wire.fileno()}",
				 "-device", f"virtio-net-pci,netdev=net{number},"
				 "host_mtu=9000,romfile=,"
				 f"mac=52:54:00:00:{number:02x}:{self.node:02x}"]
		return argv

	def qemu_command(self, accel, channels):
		args = self.args
		machine = "q35"
		# no_timer_check: it counts ticks, which a busy host loses
		disk, root = self.root()
		append = ("console=ttyS0 loglevel=5 panic=-1 oops=panic "
			  f"no_timer_check pty.legacy_count=0 {root} "
			  f"LAB_JOB={self.folder}/job")
		name = os.path.relpath(self.folder, RUNS).replace("/", "-")
		argv = ["qemu-system-x86_64", "-name", "lab-" + name,
			"-nodefaults", "-no-user-config", "-display", "none",
			"-no-reboot", "-D", self.trace,
			"-cpu", args.cpu or TOPOLOGIES[args.topology],
			"-smp", str(args.smp), "-m", str(args.memory),
			# unplugging is pciehp's, as on real hardware
			"-global",
			"ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"]
		if args.icount:
			argv += ["-accel", "tcg,thread=single",
				 "-icount", "shift=0,sleep=off"]
		else:
			argv += ["-accel", accel]
		if args.topology == "iommu":
			machine += ",kernel-irqchip=split"
			argv += ["-device", "intel-iommu"]
			append += " intel_iommu=on"
		argv += ["-machine", machine, "-append",
			 " ".join([append] + args.append)]
		for option, path in zip(("-kernel", "-initrd"),
					boot_files(args)):
			argv += [option, path]
		argv += ["-chardev", f"file,id=console,path={self.console}",
			 "-serial", "chardev:console"]
		for tag, path, readonly in (("root", "/", "on"),
					    ("out", self.out, "off")):
			argv += ["-fsdev", f"local,id={tag},path={path},"
				 "security_model=none,multidevs=remap,"
				 f"readonly={readonly}",
				 "-device", f"virtio-9p-pci,fsdev={tag},"
				 f"mount_tag={tag}"]
		argv += ["-device", "virtio-rng-pci",
			 "-device", "virtio-serial-pci"]
		for name, sock in channels.items():
			argv += ["-chardev",
				 f"socket,id={name},fd={sock.fileno()}"]
			if name == "qmp":
				argv += ["-mon", "chardev=qmp,mode=control"]
			elif name == "tty":
				argv += ["-device", "virtconsole,chardev=tty"]
			else:
				argv += ["-device", "virtserialport,"
					 f"chardev={name},name=lab.{name}"]
		# the cards come last: all else stays where it is without them
		return argv + disk + self.test_devices() + self.network_cards()

	def write_job(self):
		"""What guest/init reads."""
		size = os.terminal_size((80, 24))
		if os.isatty(1):
			size = os.get_terminal_size(1)
		modules = os.path.join(BUILD, "kernel", self.args.kernel, "root")
		exports = {
			"LAB_KERNEL": self.args.kernel,
			"LAB_TOPOLOGY": self.args.topology,
			"LAB_NODES": str(self.args.nodes),
			"LAB_NODE": str(self.node),
			"LAB_BUILD": BUILD,
			"LAB_OUT": self.out,
			"LAB_MODULES": modules,
		}
		for name in ("LAB_LONG", "LAB_SEED"):
			if name in os.environ:
				exports[name] = os.environ[name]
		values = {
			"lab_root": ROOT,
			"lab_path": f"{BUILD}/perftest/bin:{BUILD}/user/tests",
			"lab_mode": self.args.mode,
			"lab_token": self.token.decode(),
			"lab_term": os.environ.get("TERM", "dumb"),
			"lab_rows": str(size.lines),
			"lab_cols": str(size.columns),
		}
		with open(os.path.join(self.folder, "job"), "w") as job:
			for key, value in exports.items():
				job.write(f"export {key}={shlex.quote(value)}\n")
			for key, value in values.items():
				job.write(f"{key}={shlex.quote(value)}\n")
			job.write(f"lab_command=({shlex.join(self.args.command)})\n")

	# ---- channels

	def relay_output(self, sock, fd):
		"""Pass on what the command prints, up to the token."""
		held = b""
		while True:
			data = sock.recv(65536)
			held += data
			done = held.endswith(self.token)
			if done:
				ready, held = held[:-len(self.token)], b""
			elif not data:
				ready, held = held, b""
			else:
				# the tail may be the token's beginning
				keep = len(self.token) - 1
				while keep and not held.endswith(
						self.token[:keep]):
					keep -= 1
				ready, held = (held[:len(held) - keep],
					       held[len(held) - keep:])
			write_all(fd, ready)
			if done or not data:
				return

	def relay_terminal(self, sock):
		"""Keys to the guest's terminal."""
		while True:
			data = os.read(0, 4096)
			if not data:
				sock.sendall(b"\x04")	# end of file, on a tty
				return
			sock.sendall(data)

	def relay_screen(self, sock):
		while True:
			data = sock.recv(65536)
			if not data:
				return
			write_all(1, data)

	# ---- lab-host

	def agent(self, sock, qmp_sock):
		qmp = Qmp(qmp_sock)
		calls = {"address": self.address, "find": self.find,
			 "count": self.count, "crc32": self.crc32,
			 "digest": self.digest,
			 "throttle": self.throttle, "freeze": self.freeze,
			 "dma-start": self.dma_start,
			 "dma-count": self.dma_count,
			 "mmio-start": self.mmio_start,
			 "mmio-count": self.mmio_count,
			 "device_del": self.device_del,
			 "device_add": self.device_add, "drained": self.drained}
		with sock.makefile("rwb", buffering=0) as stream:
			for line in stream:
				words = line.decode(errors="replace").split()
				try:
					call = calls[words[0]]
					answer = f"0 {call(qmp, *words[1:])}"
				except (KeyError, IndexError, TypeError):
					answer = "1 no such request"
				except (OSError, RuntimeError, ValueError) as e:
					answer = f"1 {e}"
				stream.write(answer.strip().encode() + b"\n")

	def device(self, name):
		if name not in self.devices:
			raise RuntimeError(f"no device {name}")
		return self.devices[name]

	def address(self, qmp, name):
		self.device(name)
		for d in pci_functions(qmp):
			if d["qdev_id"] == name:
				return (f"0000:{d['bus']:02x}:{d['slot']:02x}."
					f"{d['function']}")
		raise RuntimeError("not plugged in")

	def backing(self, name):
		path = os.path.join(self.folder, name + ".img")
		if not os.path.exists(path):
			raise RuntimeError(f"no file behind {name}")
		return path

	def find(self, _, name, file):
		path = os.path.realpath(os.path.join(self.out, file))
		if not path.startswith(self.out + "/"):
			raise RuntimeError("the file is not in LAB_OUT")
		with open(path, "rb") as f:
			needle = f.read()
		if not needle.strip(b"\0"):
			raise RuntimeError("only zeros, which prove nothing")
		with open(self.backing(name), "rb") as f:
			for start, end in extents(f):
				# the bytes may begin or end in a hole
				start = max(start - len(needle), 0)
				f.seek(start)
				data = f.read(end + len(needle) - start)
				at = data.find(needle)
				if at >= 0:
					return start + at
		raise RuntimeError("not found")

	def count(self, _, name, byte):
		value = int(byte, 0)
		total = 0
		with open(self.backing(name), "rb") as f:
			size = os.fstat(f.fileno()).st_size
			for start, end in extents(f):
				size -= end - start
				f.seek(start)
				while start < end:
					data = f.read(min(end - start, 1 << 24))
					total += data.count(value)
					start += len(data)
		return total + (size if value == 0 else 0)

	def crc32(self, _, name, size=None):
		"""Of the file's beginning, or of all of it."""
		value = 0
		with open(self.backing(name), "rb") as f:
			left = int(size or os.fstat(f.fileno()).st_size)
			while left and (data := f.read(min(left, 1 << 24))):
				value = zlib.crc32(data, value)
				left -= len(data)
		return f"{value:08x}"

	def digest(self, qmp, name):
		"""A digest of a BAR; of an nvme's CMB the first 16 MiB."""
		path = os.path.join(self.folder, name + ".bar")
		if name in self.memories:
			path = self.backing(name)
		else:
			start = self.prefetchable(qmp, name)
			qmp.command("pmemsave", {"val": start, "size": 16 << 20,
						 "filename": path})
		with open(path, "rb") as f:
			value = hashlib.sha256()
			while data := f.read(1 << 24):
				value.update(data)
			return value.hexdigest()

	def prefetchable(self, qmp, name):
		"""Where a device's prefetchable BAR is in the guest's memory."""
		for start, _, owner in prefetchable_bars(qmp):
			if owner == name:
				return start
		raise RuntimeError(f"{name} has no prefetchable BAR")

	def throttle(self, qmp, name, rate):
		"""So many requests a second at most; 0: as many as there are."""
		self.device(name)
		limits = ("bps", "bps_rd", "bps_wr", "iops_rd", "iops_wr")
		qmp.command("block_set_io_throttle",
			    {"id": name, "iops": int(rate),
			     **{limit: 0 for limit in limits}})
		return ""

	def trace_dma(self, qmp, enable):
		if self.args.topology == "iommu":
			raise RuntimeError("an IOMMU's addresses do not tell "
					   "BARs from DRAM")
		self.trace_event(qmp, "pci_nvme_map_addr", enable)

	def trace_event(self, qmp, name, enable):
		qmp.command("trace-event-set-state",
			    {"name": name, "enable": enable})
		if enable:
			self.traced[name] = os.path.getsize(self.trace)

	def traced_since(self, name):
		"""QEMU flushes it with each event."""
		with open(self.trace) as log:
			log.seek(self.traced[name])
			return log.read()

	def dma_start(self, qmp):
		self.trace_dma(qmp, True)
		return ""

	def dma_count(self, qmp):
		"""
		The nvme model has one event for each piece of memory that a
		command names as the place of its data, whether that is in DRAM,
		in another device's BAR, or in the device's own CMB (then
		pci_nvme_map_addr_cmb follows, for the same bytes). It comes
		before the transfer, so a command that fails counts as well; an
		admin command's data (identify, log pages) and the ranges of a
		discard count too. What does not: queue entries and PRP lists,
		which are read and written without being mapped.
		"""
		self.trace_dma(qmp, False)
		bars = list(prefetchable_bars(qmp))
		moved = {True: 0, False: 0}
		for address, size in re.findall(
				r"^pci_nvme_map_addr addr 0x(\w+) len (\d+)$",
				self.traced_since("pci_nvme_map_addr"), re.M):
			in_bar = any(start <= int(address, 16) < end
				     for start, end, _ in bars)
			moved[in_bar] += int(size)
		return f"{moved[True]} {moved[False]}"

	def mmio_start(self, qmp):
		for way in ("read", "write"):
			self.trace_event(qmp, f"memory_region_ops_{way}", True)
		return ""

	def mmio_count(self, qmp):
		"""
		CPUs' accesses to the CMB, the one BAR here that is no RAM. QEMU
		makes pieces of what is wider than 8 bytes, as the bus would not.
		"""
		counts = []
		for way in ("read", "write"):
			self.trace_event(qmp, f"memory_region_ops_{way}", False)
		log = self.traced_since("memory_region_ops_read")
		for way in ("read", "write"):
			sizes = re.findall(
				rf"^memory_region_ops_{way} .* size (\d+) "
				r"name 'nvme-cmb'$", log, re.M)
			counts += [len(sizes), sum(map(int, sizes))]
		return " ".join(map(str, counts))

	def freeze(self, qmp, seconds):
		"""As others see it, the whole machine is gone for a while."""
		qmp.command("stop")
		time.sleep(float(seconds))
		qmp.command("cont")
		return ""

	def device_del(self, qmp, name):
		self.device(name)
		qmp.events.clear()
		qmp.command("device_del", {"id": name})
		qmp.wait_event("DEVICE_DELETED", name, 120)
		return ""

	def device_add(self, qmp, name):
		if name in self.memories:
			# QEMU 7.2 asserts when a BAR's memory is used again
			memory = self.memories[name]
			qmp.command("object-del", {"id": memory["id"]})
			qmp.command("object-add", memory)
		qmp.command("device_add", self.device(name))
		return ""

	def drained(self, _):
		for thread in self.relays:
			thread.join()
		return ""

	# ---- a run

	def start(self, accel):
		names = ["host", "qmp"]
		names += ["tty"] if self.args.mode == "shell" else ["out", "err"]
		pairs = {name: socket.socketpair() for name in names}
		ours = {name: pair[0] for name, pair in pairs.items()}
		theirs = {name: pair[1] for name, pair in pairs.items()}
		passed = [*theirs.values(), *self.wires]
		self.write_job()
		argv = self.qemu_command(accel, theirs)
		parent = os.getpid()
		with open(os.path.join(self.folder, "qemu.log"), "w") as log:
			log.write(shlex.join(argv) + "\n")
			log.flush()
			self.process = subprocess.Popen(
				argv, stdin=subprocess.DEVNULL, stdout=log,
				stderr=log, start_new_session=True,
				preexec_fn=lambda: die_with(parent),
				pass_fds=[s.fileno() for s in passed])
		for sock in passed:
			sock.close()

		def thread(function, *arguments):
			t = threading.Thread(target=guarded, daemon=True,
					     args=(function, *arguments))
			t.start()
			return t

		thread(self.agent, ours["host"], ours["qmp"])
		if self.args.mode == "shell":
			if os.isatty(0):
				self.terminal = termios.tcgetattr(0)
				tty.setraw(0)
			thread(self.relay_terminal, ours["tty"])
			self.relays = [thread(self.relay_screen, ours["tty"])]
		else:
			self.relays = [
				thread(self.relay_output, ours["out"], 1),
				thread(self.relay_output, ours["err"], 2)]

	def stop(self):
		"""Whatever happens, no QEMU and no raw terminal stay."""
		if self.process:
			self.process.kill()
			self.process.wait()
		if self.terminal:
			termios.tcsetattr(0, termios.TCSADRAIN, self.terminal)

	def status(self):
		"""
		The command's exit code, or None if the guest ended without it;
		node 2's only command is a server, which ends when it is told.
		"""
		try:
			with open(os.path.join(self.out, ".status")) as status:
				code = int(status.read())
		except (FileNotFoundError, ValueError):
			return None
		return None if self.node == 2 and code else code

	def fault(self):
		"""True, with the report shown, if the kernel reported a fault."""
		lines = read_lines(self.console)
		for number, line in enumerate(lines):
			if FAULTS.search(line):
				show(lines[number:number + 40])
				say("the kernel reported a fault, see "
				    f"{relative(self.console)} line {number + 1}")
				return True
		return False

	def explain(self, reason):
		show(read_lines(self.console)[-20:])
		say(f"{reason}, see {relative(self.console)}")

	def explain_end(self):
		"""Why it ended early, as far as that is known."""
		qemu_log = os.path.join(self.folder, "qemu.log")
		show(line for line in read_lines(qemu_log)[1:]
		     if "support requested feature" not in line)
		guest = "node 2" if self.node == 2 else "the guest"
		self.explain(f"{guest} ended before the command did (QEMU exit "
			     f"code {self.process.returncode}; see "
			     f"{relative(qemu_log)})")


def make_guests(args, folder):
	if args.nodes == 1:
		return [Guest(args, folder)]
	# eth0, and ctl0 for on-node2
	wires = [socket.socketpair() for _ in range(2)]
	server = argparse.Namespace(**{**vars(args), "mode": "run",
				       "command": ["node2-server"]})
	return [Guest(args, folder, 1, [pair[0] for pair in wires]),
		Guest(server, os.path.join(folder, "node2"), 2,
		      [pair[1] for pair in wires])]


def wait(guests):
	"""
	Until all have ended, or one early, or time is up; then the others are
	ended. Those that ended by themselves.
	"""
	timeout = guests[0].args.timeout
	end = time.monotonic() + (timeout or float("inf"))
	while True:
		ended = [g for g in guests if g.process.poll() is not None]
		if (len(ended) == len(guests) or time.monotonic() > end or
		    any(g.status() is None for g in ended)):
			break
		time.sleep(0.05)
	for guest in guests:
		guest.stop()
	for guest in guests:
		for thread in guest.relays:
			thread.join(10)
	return ended


def verdict(guests, ended):
	"""The run's exit code, with a reason if it is ours."""
	if any([guest.fault() for guest in guests]):
		return BAD_KERNEL
	for guest in ended:
		if guest.status() is None:
			guest.explain_end()
			return NO_STATUS
	for guest in guests:
		if guest not in ended:
			guest.explain(f"timeout after {guest.args.timeout:g} s")
			return TIMEOUT
	return guests[0].status()


def pci_functions(qmp):
	"""All of them, those behind bridges too."""
	def below(devices):
		for d in devices:
			yield d
			yield from below(d.get("pci_bridge", {})
					 .get("devices", []))

	for bus in qmp.command("query-pci"):
		yield from below(bus["devices"])


def prefetchable_bars(qmp):
	"""Start, end, and QEMU id of the device."""
	for d in pci_functions(qmp):
		for region in d["regions"]:
			if region.get("prefetch"):
				start = region["address"]
				yield start, start + region["size"], d["qdev_id"]


def die_with(parent):
	"""In the child: SIGKILL when the parent dies, even by SIGKILL."""
	ctypes.CDLL(None).prctl(1, signal.SIGKILL)	# PR_SET_PDEATHSIG
	if os.getppid() != parent:
		os._exit(1)


def guarded(function, *arguments):
	"""That QEMU is gone is no news: the main thread waits for it."""
	try:
		function(*arguments)
	except (ConnectionError, RuntimeError):
		pass


def write_all(fd, data):
	try:
		while data:
			data = data[os.write(fd, data):]
	except BrokenPipeError:
		# as "head" does to its writers; the main thread ends the run
		os.kill(os.getpid(), signal.SIGTERM)
		raise


def extents(file):
	"""(start, end) of a sparse file's parts that hold data."""
	fd = file.fileno()
	end = 0
	while True:
		try:
			start = os.lseek(fd, end, os.SEEK_DATA)
		except OSError:		# ENXIO: none after this
			return
		end = os.lseek(fd, start, os.SEEK_HOLE)
		yield start, end


def read_lines(path):
	try:
		with open(path, errors="replace") as file:
			return file.read().splitlines()
	except FileNotFoundError:
		return []


def show(lines):
	for line in lines:
		print("  | " + line.rstrip(), file=sys.stderr)


def accelerator(kernel):
	"""
	"kvm" if a guest was seen to boot with it: a /dev/kvm that opens may
	still not run one. Asked once per boot of the host.
	"""
	if not os.access("/dev/kvm", os.R_OK | os.W_OK):
		return "tcg"
	with open("/proc/sys/kernel/random/boot_id") as file:
		key = file.read().strip()
	cache = os.path.join(BUILD, "accelerator")
	if os.path.exists(cache):
		with open(cache) as file:
			boot, accel = file.read().split()
		if boot == key:
			return accel
	args = parse(["run", "--timeout", "20", "--kernel", kernel, "--", "true"])
	guest = Guest(args, make_folder(f"pid{os.getpid()}-kvm"))
	try:
		guest.start("kvm")
		booted = wait([guest]) and guest.status() is not None
		accel = "kvm" if booted else "tcg"
	finally:
		guest.stop()
	with open(cache, "w") as file:
		file.write(f"{key} {accel}\n")
	return accel


def on_signal(number, _):
	raise Stop(number)


def main():
	args = parse(sys.argv[1:])
	for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
		signal.signal(number, on_signal)
	guests = []
	try:
		if not (args.no_build or "LAB_NO_BUILD" in os.environ):
			build(args.kernel)
		kernel = boot_files(args)[0]
		if not os.path.exists(kernel):
			say(f"there is no kernel {kernel}")
			return 1
		folder = make_folder(args.name or f"pid{os.getpid()}")
		forget_old_runs()
		guests = make_guests(args, folder)
		accel = accelerator(args.kernel)
		for guest in guests:
			guest.start(accel)
		return verdict(guests, wait(guests))
	except Stop as stop:
		say(f"stopped by {signal.Signals(stop.args[0]).name}")
		return 128 + stop.args[0]
	finally:
		for guest in guests:
			guest.stop()


if __name__ == "__main__":
	code = main()
	# Threads may be blocked in a write to a reader that is gone.
	sys.stderr.flush()
	os._exit(code)
