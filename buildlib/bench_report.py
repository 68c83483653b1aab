#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
"""
bench_report.py accesses|copy|messages|perftest|reg|revoke: what the boots of ./lab bench printed
(build/bench/raw-WHAT/KERNEL.CPU.BOOT) as a table on stdout, as
build/bench/WHAT.json with every value, and as a plot, build/bench/WHAT.svg.
"""

import json
import math
import os
import subprocess
import sys
from statistics import median

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BENCH = os.path.join(ROOT, "build", "bench")
PACKETS = 16	# of 4096 bytes, in a message
MEMORY = {"host-4K": "host, 4 KiB pages", "host-2M": "host, 2 MiB pages",
	  "mapping": "BAR, ibv_reg_mr on a mapping",
	  "peer": "BAR, iopmem_reg_mr, peer memory",
	  "dmabuf": "BAR, iopmem_reg_mr, dma-buf"}

LIMITS = """\
What this rig cannot show: the CPU is emulated (QEMU TCG), so that uncached and
write-combining memory cost what RAM costs, and there is no PCIe; Soft-RoCE
copies by CPU where a NIC would use DMA. Instructions are not seconds, and no
figure here is a speed of BAR memory."""


def load(what):
	"""A list of boots; each has lists of numbers by the words before."""
	boots = []
	folder = os.path.join(BENCH, "raw-" + what)
	for name in sorted(os.listdir(folder)):
		kernel, rest = name.split(".", 1)
		cpu, number = rest.rsplit(".", 1)
		boot = {"kernel": kernel, "cpu": cpu, "boot": int(number),
			"values": {}}
		with open(os.path.join(folder, name)) as file:
			for line in file:
				words = line.split()
				if words[0] == "kernel":
					boot["release"] = words[1]
					continue
				text = [w for w in words if not w.isdigit()]
				numbers = [int(w) for w in words if w.isdigit()]
				boot["values"].setdefault(
					" ".join(text), []).append(numbers)
		boots.append(boot)
	return boots


class Figure:
	"""One number of a table: its median in each boot."""

	def __init__(self, boots, kernel, cpu, key, column=0):
		self.boots = [median(v[column] for v in boot["values"][key])
			      for boot in boots
			      if (boot["kernel"], boot["cpu"]) == (kernel, cpu)]
		self.median = median(self.boots)
		self.spread = max(self.boots) - min(self.boots)


def number(value):
	return f"{value:,.0f}"


def micro(value):
	return f"{value / 1000:,.1f}"


def table(title, head, rows):
	rows = [head] + rows
	widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
	# the words on the left, the numbers on the right
	words = sum(1 for cell in rows[1] if not cell[0].isdigit()
		    and cell[0] not in "+-")
	print(f"\n{title}\n")
	for row in rows:
		print("  ".join(cell.ljust(w) if i < words else cell.rjust(w)
				for i, (cell, w) in enumerate(zip(row, widths))
				).rstrip())


def models(boots):
	return sorted({boot["cpu"] for boot in boots})


# ---- accesses

def accesses(boots):
	"""One boot: a count is what it is."""
	kib = 64
	summary = []
	bars = []
	rows = []
	for key, values in boots[0]["values"].items():
		reads, read_bytes, writes, written = values[0]
		name = key.removeprefix("accesses ")
		way, count, moved = (("read", reads, read_bytes) if reads else
				     ("write", writes, written))
		if reads and writes or moved != kib << 10:
			sys.exit(f"bench: {name}: {values[0]}")
		rows.append([name, way, number(count / kib),
			     f"{moved / count:.0f}"])
		summary.append({"accessor": name, "way": way,
				"accesses": count, "bytes": moved})
		bars.append((f"{name} ({way})",
			     [("accesses a KiB", count / kib)]))
	table(f"Moving {kib} KiB to or from a BAR, an access to which QEMU traps: "
	      "accesses by the CPU for a KiB, and bytes in each",
	      ["accessor", "way", "a KiB", "bytes"], rows)
	plot("accesses", "Accesses to a BAR for a KiB", bars)
	return summary


# ---- copy

def copy(boots):
	"""Medians of the boots' medians, and the ratios within each boot."""
	rows = []
	summary = []
	bars = []
	mib = 64
	columns = {"ms": 0, "CPU ms": 1, "in BARs": 2, "in DRAM": 3}
	figures = {memory: {name: Figure(boots, "patched", "Skylake-Server",
					 "copy " + memory, column)
			    for name, column in columns.items()}
		   for memory in ("bar", "host")}
	ratios = {}
	for name in ("ms", "CPU ms"):
		pairs = zip(figures["bar"][name].boots,
			    figures["host"][name].boots)
		ratios[name] = sorted(bar / host for bar, host in pairs)
	for memory, f in figures.items():
		rows.append([memory, f"{mib / f['ms'].median * 1000:.1f}",
			     f"{f['CPU ms'].median / mib:.1f}",
			     number(f["in BARs"].median),
			     number(f["in DRAM"].median)])
		summary.append({"memory": memory,
				**{name: v.median for name, v in f.items()},
				**{name + " spread": v.spread
				   for name, v in f.items()}})
		bars.append((memory, [("milliseconds", f["ms"].median)]))
	table(f"iopmem-copy of a drive of {mib} MiB to another host's (median of "
	      f"{len(boots)} boots): throughput, CPU time of both guests, and the "
	      "bytes that both drives' DMA had in BARs and in DRAM",
	      ["through", "MiB/s", "CPU ms a MiB", "in BARs", "in DRAM"], rows)
	rows = [[name, f"{1 / median(r):.2f}" if name == "ms" else
		 f"{median(r):.2f}",
		 f"{1 / r[-1]:.2f} to {1 / r[0]:.2f}" if name == "ms" else
		 f"{r[0]:.2f} to {r[-1]:.2f}"]
		for name, r in ratios.items()]
	rows[0][0], rows[1][0] = "throughput", "CPU time"
	table("BAR, where host memory is 1", ["", "median", "boots"], rows)
	plot("copy", f"iopmem-copy of {mib} MiB: milliseconds", bars)
	return summary


# ---- messages

def copies(boots, cpu, memory):
	"""Instructions of the copy functions in a message: out of one MR, into
	the other."""
	used = {"host": ("memcpy", "memcpy"),
		"bar": ("from_io", "to_io")}[memory]
	return PACKETS * sum(Figure(boots, "patched", cpu, f"copy {f}").median
			     for f in used)


def messages(boots):
	count = len(boots) // 2 // len(models(boots))
	summary = []
	bars = []
	rows = []
	for cpu in models(boots):
		for test in ("write", "read"):
			for memory in ("host", "bar"):
				f = Figure(boots, "patched", cpu,
					   f"message {test} {memory}")
				copy = copies(boots, cpu, memory)
				rows.append([cpu, test, memory,
					     number(f.median), number(f.spread),
					     number(copy),
					     number(f.median - copy)])
				bars.append((f"{cpu}: {test}, {memory}",
					     [("copy loop", copy),
					      ("all else", f.median - copy)]))
				summary.append({
					"cpu": cpu, "test": test,
					"memory": memory, "total": f.median,
					"spread": f.spread, "copy": copy})
	table("Instructions for an RDMA message of 64 KiB, patched kernel (median "
	      f"of {count} boots; spread: largest less smallest)",
	      ["-cpu", "test", "memory", "total", "spread", "copy loop",
	       "all else"], rows)

	rows = [[cpu] + [f"{Figure(boots, 'patched', cpu, f'copy {f}').median / 4096:.2f}"
			 for f in ("loop", "memcpy", "from_io", "to_io")]
		for cpu in models(boots)]
	print("""
Copy loop: each byte is copied out of one MR and into the other. A kernel module
timed the copy functions on 4096 bytes, in the same boots; x 16 packets x 2.""")
	table("Instructions a byte", ["-cpu", "a loop of one", "memcpy (host)",
				      "out of a bar", "into a bar"], rows)

	rows = []
	for cpu in models(boots):
		for test in ("write", "read"):
			key = f"message {test} host"
			old = Figure(boots, "vanilla", cpu, key)
			new = Figure(boots, "patched", cpu, key)
			diff = new.median - old.median
			spread = max(old.spread, new.spread)
			rows.append([cpu, test,
				     number(old.median), number(old.spread),
				     number(new.median), number(new.spread),
				     f"{diff:+,.0f}",
				     f"{100 * diff / old.median:+.3f} %",
				     "within" if abs(diff) <= spread else "BEYOND"])
			summary.append({
				"cpu": cpu, "test": test, "memory": "host",
				"unpatched": old.median, "patched": new.median,
				"unpatched_spread": old.spread,
				"patched_spread": new.spread})
	table("Host memory, patched against unpatched rxe: instructions for a "
	      f"message ({count} boots each)",
	      ["-cpu", "test", "unpatched", "spread", "patched", "spread",
	       "difference", "", "of the spread"], rows)
	plot("messages", "Instructions for an RDMA message of 64 KiB", bars)
	return summary


# ---- perftest

def perftest(boots):
	count = len(boots) // len(models(boots))
	memories = {"host": "host", "peer": "BAR, peer memory",
		    "dmabuf": "BAR, dma-buf", "cmb": "CMB, peer memory"}
	tests = {"bw": "bandwidth", "lat": "latency"}
	summary = []
	bars = []
	rows = []

	def copy_loop(cpu, memory, size):
		"""Out of one MR and into the other, packet by packet."""
		packets = max(size // 4096, 1)
		suffix = {64: "_64B", 1024: "_1K"}.get(size, "")
		used = (("memcpy", "memcpy") if memory == "host" else
			("from_io", "to_io"))
		return packets * sum(Figure(boots, "patched", cpu,
					    f"copy {f}{suffix}").median
				     for f in used)

	for cpu in models(boots):
		for test in tests:
			for verb in ("send", "read"):
				for label in ("64B", "1K", "4K", "64K", "1M"):
					host = None
					for memory, name in memories.items():
						key = f"{test} {verb} {memory} {label}"
						if key not in boots[0]["values"]:
							continue
						f = Figure(boots, "patched",
							   cpu, key)
						copy = copy_loop(cpu, memory,
								 size_of(label))
						rest = f.median - copy
						host = host or (rest, f.spread)
						more = rest - host[0]
						beyond = more > max(f.spread,
								    host[1])
						rows.append([
							cpu, f"ib_{verb}_{test}",
							name, label,
							number(f.median),
							number(f.spread),
							number(copy),
							number(rest),
							f"{more:+,.0f}",
							"-" if memory == "host"
							else "BEYOND" if beyond
							else "within"])
						summary.append({
							"cpu": cpu,
							"tool": f"ib_{verb}_{test}",
							"size": size_of(label),
							"memory": memory,
							"total": f.median,
							"spread": f.spread,
							"copy": copy})
						bars.append((
							f"{verb} {test}, {label}, "
							f"{memory} (-cpu {cpu})",
							[("a message", f.median)]))
	table("What perftest says, as instructions a message (its bandwidth or "
	      f"latency, at one a ns; median of {count} boots; spread: largest "
	      "less smallest)",
	      ["-cpu", "tool", "memory", "size", "a message", "spread",
	       "copy loop", "all else", "than host's", "of the spread"], rows)
	print("""
Both sides sleep until completions come (-e), on one CPU. The copy loop is that of
bench messages. The CMB is memory that QEMU traps: each access is one instruction
here, however long it takes.""")
	plot("perftest", "perftest: instructions a message (logarithmic)", bars,
	     logarithmic=True)
	return summary


# ---- registration

def size_of(text):
	return int(text[:-1]) << {"B": 0, "K": 10, "M": 20, "G": 30}[text[-1]]


def labels(boots, what, memory):
	"""What is said of one kind of memory: its sizes, or the numbers of
	MRs."""
	found = {key.split()[2] for boot in boots for key in boot["values"]
		 if key.split()[:2] == [what, memory]}
	return sorted(found, key=lambda text: int(text[1:]) if text[0] == "x"
		      else size_of(text))


def reg(boots):
	count = len(boots) // len(models(boots))
	summary = []
	bars = []
	by_size = []
	by_count = []
	slopes = []
	zeroing = []
	kernel = []

	def figure(cpu, what, memory, label, column=0):
		return Figure(boots, "patched", cpu,
			      f"{what} {memory} {label}", column)

	for cpu in models(boots):
		unit = figure(cpu, "warm", "host-4K", "4K").median
		for memory, name in MEMORY.items():
			for what, rows in (("warm", by_size),
					   ("among", by_count)):
				for label in labels(boots, what, memory):
					on, off = (figure(cpu, what, memory,
							  label, column)
						   for column in (0, 1))
					rows.append([cpu, name,
						     label.strip("x"),
						     micro(on.median),
						     micro(on.spread),
						     micro(off.median),
						     micro(off.spread),
						     f"{on.median / unit:.2f}"])
					summary.append({
						"cpu": cpu, "memory": memory,
						"what": what, "label": label,
						"reg": on.median,
						"reg_spread": on.spread,
						"dereg": off.median,
						"dereg_spread": off.spread})
			sizes = labels(boots, "warm", memory)
			ends = [figure(cpu, "warm", memory, size)
				for size in (sizes[0], sizes[-1])]
			gib = (size_of(sizes[-1]) - size_of(sizes[0])) / 2**30
			slopes.append([cpu, name, sizes[-1],
				       f"{(ends[1].median - ends[0].median) / gib:+,.1f}",
				       number(max(end.spread for end in ends))])
			bars += [(f"{memory}, {size} (-cpu {cpu})",
				  [("registration",
				    figure(cpu, "warm", memory, size).median)])
				 for size in sizes]
			for size in labels(boots, "bytes", memory):
				f = figure(cpu, "bytes", memory, size)
				kernel.append([cpu, name, size,
					       number(f.median)])
				summary.append({"cpu": cpu, "memory": memory,
						"what": "bytes", "label": size,
						"bytes": f.median})
		for size in labels(boots, "cold", "mapping"):
			f = figure(cpu, "cold", "mapping", size)
			zeroing.append([cpu, size, micro(f.median)])
			summary.append({"cpu": cpu, "memory": "mapping",
					"what": "cold", "label": size,
					"reg": f.median})

	head = ["reg", "spread", "dereg", "spread", "x host's 4K"]
	table("Registering one region, in thousands of instructions (us at one a "
	      f"ns; median of {count} boots; spread: largest less smallest)",
	      ["-cpu", "memory", "size"] + head, by_size)
	table("Registering 4 KiB with so many MRs there, the same",
	      ["-cpu", "memory", "MRs"] + head, by_count)
	table("Instructions for each further GiB, from 4 KiB up to a size",
	      ["-cpu", "memory", "up to", "a GiB", "spread of both"], slopes)
	table("The kernel's own memory for an MR (slab and vmalloc), in bytes",
	      ["-cpu", "memory", "size", "bytes"], kernel)
	table("The first registration of a fresh mapping, which zeroes it, in "
	      "thousands of instructions", ["-cpu", "size", "reg"], zeroing)
	plot("reg", "Registration: instructions (logarithmic)", bars,
	     logarithmic=True)
	return summary


# ---- revocation

def revoke(boots):
	count = len(boots) // len(models(boots))
	summary = []
	bars = []
	rows = []
	slopes = []
	names = {"peer": "peer memory", "dmabuf": "dma-buf"}
	for cpu in models(boots):
		for kind, name in names.items():
			for load in ("idle", "traffic"):
				times = {n: Figure(boots, "patched", cpu,
						   f"revoke {kind} {load} x{n}")
					 for n in (0, 1, 10, 100, 1000, 10000)}
				none = times[0].median
				for n, f in times.items():
					more = f.median - none
					rows.append([
						cpu, name, load, str(n),
						micro(f.median), micro(f.spread),
						micro(more / n) if n else "-"])
					summary.append({
						"cpu": cpu, "kind": kind,
						"load": load, "mrs": n,
						"ns": f.median,
						"spread": f.spread})
					bars.append((f"{name}, {load}, {n} MRs "
						     f"(-cpu {cpu})",
						     [("unbind", f.median)]))
				# what each MR takes among few, and among many
				few = (times[1000].median - times[100].median) / 900
				many = (times[10000].median -
					times[1000].median) / 9000
				slopes.append([cpu, name, load, micro(few),
					       micro(many),
					       f"{many / few:.2f}"])
	table("Unbinding with so many MRs on the memory, in thousands of "
	      f"instructions (us at one a ns; median of {count} boots; spread: "
	      "largest less smallest)",
	      ["-cpu", "door", "load", "MRs", "all", "spread", "an MR"], rows)
	table("What each further MR takes, from 100 to 1,000 and from 1,000 to "
	      "10,000; linear if the ratio is 1",
	      ["-cpu", "door", "load", "of 1,000", "of 10,000", "ratio"], slopes)
	plot("revoke", "Unbinding: instructions (logarithmic)", bars,
	     logarithmic=True)
	return summary


# ---- plot

def plot(what, title, bars, logarithmic=False):
	"""Horizontal bars, each of one or more (name, value) parts."""
	left, right, line = 320, 780, 26
	colours = ("#d55e00", "#0072b2")
	largest = max(sum(v for _, v in parts) for _, parts in bars)
	legend = [name for name, _ in bars[0][1]]
	height = 60 + line * (len(bars) + 1)
	svg = ["<svg xmlns='http://www.w3.org/2000/svg' width='880' "
	       f"height='{height}' font-family='sans-serif' font-size='13'>",
	       "<rect width='100%' height='100%' fill='white'/>",
	       f"<text x='10' y='24' font-size='16'>{title}</text>"]

	def scale(value):
		if logarithmic:
			# a bar's length is the decades above a thousand
			value = math.log10(max(value, 1000) / 1000)
			return value / math.log10(largest / 1000) * (right - left)
		return value / largest * (right - left)

	for i, name in enumerate(legend):
		x = left + 160 * i
		svg.append(f"<rect x='{x}' y='36' width='12' height='12' "
			   f"fill='{colours[i]}'/>"
			   f"<text x='{x + 18}' y='47'>{name}</text>")
	for i, (label, parts) in enumerate(bars):
		y = 62 + line * i
		x = left
		svg.append(f"<text x='{left - 8}' y='{y + 14}' "
			   f"text-anchor='end'>{label}</text>")
		for (_, value), colour in zip(parts, colours):
			width = scale(value)
			svg.append(f"<rect x='{x:.1f}' y='{y}' "
				   f"width='{width:.1f}' height='18' "
				   f"fill='{colour}'/>")
			x += width
		total = sum(value for _, value in parts)
		svg.append(f"<text x='{x + 6:.1f}' y='{y + 14}'>"
			   f"{number(total)}</text>")
	svg.append("</svg>\n")
	with open(os.path.join(BENCH, what + ".svg"), "w") as file:
		file.write("\n".join(svg))


def git(*words):
	return subprocess.run(["git", "-C", ROOT, *words], text=True,
			      capture_output=True).stdout.strip()


def main():
	what = sys.argv[1]
	boots = load(what)
	summary = {"accesses": accesses, "copy": copy, "messages": messages,
		   "perftest": perftest, "reg": reg,
		   "revoke": revoke}[what](boots)
	print("\n" + LIMITS)
	path = os.path.join(BENCH, what + ".json")
	with open(path, "w") as file:
		json.dump({
			"what": what,
			"commit": git("rev-parse", "HEAD") or "unknown",
			"changed_since": bool(git("status", "--porcelain")),
			"mode": {"accesses": "-smp 2, TCG",
				 "copy": "two guests, -smp 2, TCG"}.get(what,
				"-smp 1, TCG, -icount shift=0: ns = instructions"),
			"summary": summary,
			"boots": boots,
		}, file, indent=1)
		file.write("\n")
	print(f"\nEvery value: {os.path.relpath(path)}; plot: "
	      f"{os.path.relpath(os.path.join(BENCH, what + '.svg'))}")


if __name__ == "__main__":
	main()
