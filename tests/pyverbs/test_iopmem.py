# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
"""
RDMA between regions of /dev/iopmem0 and /dev/iopmem1, by both doors: MRs on
dma-bufs, and MRs on mappings. Of pyverbs it uses only what Debian 12's has too.
"""
import ctypes
import errno
import fcntl
import mmap
import os
import struct
import unittest

from args_parser import parser
from pyverbs.addr import AHAttr, GlobalRoute
from pyverbs.cq import CQ
from pyverbs.device import Context
from pyverbs.mr import MR, DmaBufMR
from pyverbs.pd import PD
from pyverbs.pyverbs_error import PyverbsRDMAError
from pyverbs.qp import QP, QPAttr, QPCap, QPInitAttr
from pyverbs.wr import RecvWR, SendWR, SGE
import pyverbs.enums as e

BAR0 = '/dev/iopmem0'
BAR1 = '/dev/iopmem1'
PAGE = mmap.PAGESIZE
SIZE = 16 * PAGE
# Several packets, the last of which is short.
LENGTH = 5 * PAGE + 13
# Not aligned to a page, but for atomics.
OFFSET = 2 * PAGE + 0x248

LOCAL_WRITE = e.IBV_ACCESS_LOCAL_WRITE
ALL_ACCESS = (LOCAL_WRITE | e.IBV_ACCESS_REMOTE_WRITE |
			e.IBV_ACCESS_REMOTE_READ | e.IBV_ACCESS_REMOTE_ATOMIC)

# <rdma/iopmem.h>
IOPMEM_IOC_ALLOC = 0xc018bc10
IOPMEM_IOC_INFO = 0xc038bc11


def alloc(path, size=SIZE, fd_flags=os.O_RDWR):
	"""A dma-buf of memory of the device."""
	arg = bytearray(struct.pack('=QIIiI', size, 0, fd_flags | os.O_CLOEXEC,
								0, 0))
	device = os.open(path, os.O_RDWR)
	try:
		fcntl.ioctl(device, IOPMEM_IOC_ALLOC, arg)
	finally:
		os.close(device)
	return struct.unpack('=QIIiI', arg)[3]


def free_bytes(path):
	arg = bytearray(56)
	device = os.open(path, os.O_RDWR)
	try:
		fcntl.ioctl(device, IOPMEM_IOC_INFO, arg)
	finally:
		os.close(device)
	return struct.unpack_from('=QQ', arg)[1]


class BarMemory:
	"""What the CPU sees of a region, of which the MR is a part."""
	@property
	def data(self):
		return self.mem[OFFSET:OFFSET + LENGTH]

	@data.setter
	def data(self, data):
		self.mem[OFFSET:OFFSET + LENGTH] = data

	@property
	def surroundings(self):
		return self.mem[:OFFSET] + self.mem[OFFSET + LENGTH:]

	def close(self):
		self.mr.close()
		self.mem.close()


class DmaBufMemory(BarMemory):
	"""A region by its dma-buf. Its addresses for RDMA are its offsets."""
	def __init__(self, pd, path, access=ALL_ACCESS, read_only=False):
		fd = alloc(path, fd_flags=os.O_RDONLY if read_only else os.O_RDWR)
		prot = mmap.PROT_READ if read_only else mmap.PROT_READ | mmap.PROT_WRITE
		try:
			self.mem = mmap.mmap(fd, SIZE, prot=prot)
			self.mr = DmaBufMR(pd, LENGTH, access, fd, offset=OFFSET)
		finally:
			os.close(fd)
		self.addr = OFFSET


class MappedMemory(BarMemory):
	"""A region by a mapping of the device."""
	def __init__(self, pd, path, access=ALL_ACCESS):
		device = os.open(path, os.O_RDWR)
		try:
			self.mem = mmap.mmap(device, SIZE)
		finally:
			os.close(device)
		# the view would keep the mapping from being closed
		view = ctypes.c_char.from_buffer(self.mem, OFFSET)
		self.addr = ctypes.addressof(view)
		del view
		self.mr = MR(pd, LENGTH, access, address=self.addr)


class HostMemory:
	"""An ordinary user may lock two of these."""
	def __init__(self, pd):
		self.mr = MR(pd, LENGTH, ALL_ACCESS)
		self.addr = self.mr.buf

	@property
	def data(self):
		return self.mr.read(LENGTH, 0)

	@data.setter
	def data(self, data):
		self.mr.write(data, LENGTH)

	def close(self):
		self.mr.close()


class End:
	"""One side: memory and an RC QP."""
	def __init__(self, context, memory, *args, **kwargs):
		self.context = context
		self.pd = PD(context)
		self.cq = CQ(context, 16)
		self.memory = memory(self.pd, *args, **kwargs)
		cap = QPCap(max_send_wr=8, max_recv_wr=8)
		init = QPInitAttr(qp_type=e.IBV_QPT_RC, scq=self.cq, rcq=self.cq,
						cap=cap)
		attr = QPAttr(port_num=1)
		attr.qp_access_flags = ALL_ACCESS
		self.qp = QP(self.pd, init, attr)

	def connect(self, other):
		# the first that is not zero
		gid_index = next(i for i in range(16)
						if int(self.context.query_gid(1, i).gid
								.replace(':', ''), 16))
		attr = QPAttr(port_num=1)
		attr.qp_access_flags = ALL_ACCESS
		attr.path_mtu = e.IBV_MTU_1024
		attr.dest_qp_num = other.qp.qp_num
		attr.max_rd_atomic = attr.max_dest_rd_atomic = 1
		attr.min_rnr_timer = 12
		attr.timeout = 14
		attr.retry_cnt = attr.rnr_retry = 7
		route = GlobalRoute(dgid=self.context.query_gid(1, gid_index),
							sgid_index=gid_index)
		attr.ah_attr = AHAttr(port_num=1, is_global=1, gr=route)
		self.qp.to_rts(attr)

	def sge(self, length=LENGTH):
		return SGE(self.memory.addr, length, self.memory.mr.lkey)

	def completion(self):
		while True:
			count, completions = self.cq.poll()
			if count:
				return completions[0].status

	def rdma(self, opcode, other, shift=0, length=LENGTH):
		"""Returns the status of the completion."""
		wr = SendWR(opcode=opcode, num_sge=1, sg=[self.sge(length)])
		wr.set_wr_rdma(other.memory.mr.rkey, other.memory.addr + shift)
		self.qp.post_send(wr)
		return self.completion()

	def fetch_add(self, other, value):
		wr = SendWR(opcode=e.IBV_WR_ATOMIC_FETCH_AND_ADD, num_sge=1,
					sg=[self.sge(8)])
		wr.set_wr_atomic(other.memory.mr.rkey, other.memory.addr, value, 0)
		self.qp.post_send(wr)
		return self.completion()

	def close(self):
		self.qp.close()
		self.memory.close()
		self.cq.close()
		self.pd.close()


class TestCase(unittest.TestCase):
	def setUp(self):
		self.context = Context(name=parser.get_config()['dev'])
		self.addCleanup(self.context.close)

	def end(self, *args, **kwargs):
		end = End(self.context, *args, **kwargs)
		self.addCleanup(end.close)
		return end

	def pair(self, a, b):
		a.connect(b)
		b.connect(a)
		return a, b

	def same(self, got, want, what):
		# assertEqual() would print all of both
		self.assertTrue(got == want, f'{what} is not what it should be')

	def assert_refused(self, error, function, *args, **kwargs):
		with self.assertRaises(PyverbsRDMAError) as cm:
			function(*args, **kwargs)
		self.assertEqual(cm.exception.error_code, error,
						os.strerror(cm.exception.error_code))


class Transfers:
	"""What moves where. Subclasses say by which door."""
	door = None

	def ends(self):
		"""From BAR to BAR, and from BAR to host memory and back."""
		bar = (self.door, BAR0)
		for a, b in [(bar, (self.door, BAR1)), (bar, (HostMemory,)),
					((HostMemory,), bar)]:
			yield self.pair(self.end(*a), self.end(*b))

	def moved(self, a, b, data):
		for memory in a.memory, b.memory:
			self.same(memory.data, data, 'the data')
			if isinstance(memory, BarMemory):
				self.same(memory.surroundings, bytes(SIZE - LENGTH),
						'what is around it')

	def test_write(self):
		for a, b in self.ends():
			data = a.memory.data = os.urandom(LENGTH)
			self.assertEqual(a.rdma(e.IBV_WR_RDMA_WRITE, b), 0)
			self.moved(a, b, data)

	def test_read(self):
		for a, b in self.ends():
			data = b.memory.data = os.urandom(LENGTH)
			self.assertEqual(a.rdma(e.IBV_WR_RDMA_READ, b), 0)
			self.moved(a, b, data)

	def test_send(self):
		for a, b in self.ends():
			data = a.memory.data = os.urandom(LENGTH)
			b.qp.post_recv(RecvWR(num_sge=1, sg=[b.sge()]))
			a.qp.post_send(SendWR(num_sge=1, sg=[a.sge()]))
			self.assertEqual(a.completion(), 0)
			self.assertEqual(b.completion(), 0)
			self.moved(a, b, data)

	def test_fetch_add(self):
		for a, b in self.ends():
			b.memory.data = struct.pack('=Q', 2**63 + 5) + bytes(LENGTH - 8)
			self.assertEqual(a.fetch_add(b, 2**63 + 6), 0)
			self.assertEqual(a.memory.data[:8], struct.pack('=Q', 2**63 + 5))
			self.assertEqual(b.memory.data[:8], struct.pack('=Q', 11))

	def test_beyond(self):
		a, b = self.pair(self.end(self.door, BAR0), self.end(self.door, BAR1))
		a.memory.data = os.urandom(LENGTH)
		data = b.memory.data = os.urandom(LENGTH)
		self.assertEqual(a.rdma(e.IBV_WR_RDMA_WRITE, b, shift=1),
						e.IBV_WC_REM_ACCESS_ERR)
		self.same(b.memory.data, data, 'the data')
		self.same(b.memory.surroundings, bytes(SIZE - LENGTH),
				'what is around it')

	def test_access(self):
		a, b = self.pair(self.end(self.door, BAR0),
						self.end(self.door, BAR1, access=LOCAL_WRITE))
		data = b.memory.data = os.urandom(LENGTH)
		self.assertEqual(a.rdma(e.IBV_WR_RDMA_WRITE, b),
						e.IBV_WC_REM_ACCESS_ERR)
		self.same(b.memory.data, data, 'the data')

	def test_free(self):
		"""The MR holds the memory, and it alone."""
		before = free_bytes(BAR0)
		end = self.end(self.door, BAR0)
		end.memory.mem.close()
		self.assertEqual(free_bytes(BAR0), before - SIZE)
		end.memory.mr.close()
		self.assertEqual(free_bytes(BAR0), before)


class MappingTest(Transfers, TestCase):
	door = MappedMemory


class DmaBufTest(Transfers, TestCase):
	door = DmaBufMemory

	def setUp(self):
		super().setUp()
		self.pd = PD(self.context)
		self.fd = alloc(BAR0)
		self.addCleanup(os.close, self.fd)

	def reg(self, length, access=ALL_ACCESS, fd=None, offset=0):
		return DmaBufMR(self.pd, length, access,
						self.fd if fd is None else fd, offset=offset)

	def test_range(self):
		self.reg(SIZE).close()
		self.reg(1, offset=SIZE - 1).close()
		for offset, length in [(0, SIZE + 1), (1, SIZE), (SIZE, 1), (0, 0),
							(2**64 - PAGE, 2 * PAGE)]:
			self.assert_refused(errno.EINVAL, self.reg, length, offset=offset)

	def test_device_is_no_dma_buf(self):
		device = os.open(BAR0, os.O_RDWR)
		try:
			self.assert_refused(errno.EINVAL, self.reg, SIZE, fd=device)
		finally:
			os.close(device)
		self.assert_refused(errno.EBADF, self.reg, SIZE, fd=device)

	def test_read_only(self):
		"""A read-only dma-buf can be read from, and nothing else."""
		fd = alloc(BAR0, fd_flags=os.O_RDONLY)
		try:
			for access in LOCAL_WRITE, ALL_ACCESS:
				self.assert_refused(errno.EACCES, self.reg, SIZE, access, fd)
		finally:
			os.close(fd)
		a, b = self.pair(self.end(HostMemory),
						self.end(DmaBufMemory, BAR0, read_only=True,
								access=e.IBV_ACCESS_REMOTE_READ))
		a.memory.data = os.urandom(LENGTH)
		self.assertEqual(a.rdma(e.IBV_WR_RDMA_READ, b), 0)
		self.same(a.memory.data, bytes(LENGTH), 'new memory')


class DmaBufUnsupportedTest(TestCase):
	"""Where the kernel's rxe or the provider knows no dma-bufs."""
	def test_eopnotsupp(self):
		fd = alloc(BAR0)
		pd = PD(self.context)
		try:
			self.assert_refused(errno.EOPNOTSUPP, DmaBufMR, pd, SIZE,
								LOCAL_WRITE, fd)
		finally:
			os.close(fd)
