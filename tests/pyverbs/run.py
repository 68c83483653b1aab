#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
"""
run.py FOLDER [OPTION...] TEST...: runs tests of pyverbs, prints TAP.

FOLDER is rdma-core's folder tests, and OPTION one of its run_tests.py (--dev,
for one) or --no-skips: a test that skips itself has failed. TEST is the name of
a module there or beside this file, or of what is in it: test_mr,
test_mr.MRTest, test_mr.MRTest.test_mr_rereg_addr. A test that EXCLUDED names is
skipped with its reason.
"""
import faulthandler
import os
import sys
import traceback
import types
import unittest

# The longest that a test may take, in seconds.
LIMIT = 120

EXCLUDED = {
	'test_cq.CQTest.test_resize_cq':
		'rxe completes work later than the test expects: the CQ can '
		'still be made smaller, and overflows. So on a stock kernel',
}


class Tap(unittest.TestResult):
	def __init__(self, no_skips):
		super().__init__()
		self.no_skips = no_skips
		self.count = 0

	def result(self, verdict, test, comment=''):
		self.count += 1
		name = test.id().removeprefix('tests.')
		print(f'{verdict} - {name}{comment}', flush=True)

	def startTest(self, test):
		super().startTest(test)
		faulthandler.dump_traceback_later(LIMIT, exit=True)

	def stopTest(self, test):
		faulthandler.cancel_dump_traceback_later()
		super().stopTest(test)

	def not_ok(self, test, error):
		self.result('not ok', test)
		for text in traceback.format_exception(*error):
			for line in text.splitlines():
				print('#', line, flush=True)

	def addSuccess(self, test):
		self.result('ok', test)

	def addFailure(self, test, err):
		super().addFailure(test, err)
		self.not_ok(test, err)

	def addError(self, test, err):
		super().addError(test, err)
		self.not_ok(test, err)

	def addSkip(self, test, reason):
		if self.no_skips:
			self.failures.append((test, reason))
			self.result('not ok', test, f' # skipped: {reason}')
		else:
			self.result('ok', test, f' # SKIP {reason}')

	def addSubTest(self, test, subtest, err):
		super().addSubTest(test, subtest, err)
		if err:
			self.not_ok(subtest, err)


def all_tests(suite):
	for test in suite:
		if isinstance(test, unittest.TestSuite):
			yield from all_tests(test)
		else:
			yield test


def exclude(test):
	reason = EXCLUDED.get(test.id().removeprefix('tests.'))
	if reason:
		method = getattr(test, test._testMethodName)
		setattr(test, test._testMethodName, unittest.skip(reason)(method))


def main():
	folder = sys.argv.pop(1)
	no_skips = '--no-skips' in sys.argv
	if no_skips:
		sys.argv.remove('--no-skips')
	here = os.path.dirname(os.path.abspath(__file__))
	# The package's own initialization imports the tests of every provider.
	package = types.ModuleType('tests')
	package.__path__ = [folder, here]
	sys.modules['tests'] = package
	sys.path.insert(0, folder)
	from args_parser import parser
	parser.parse_args()

	names = ['tests.' + name for name in sys.argv[1:]]
	suite = unittest.defaultTestLoader.loadTestsFromNames(names)
	for test in all_tests(suite):
		exclude(test)
	result = Tap(no_skips)
	suite.run(result)
	print(f'1..{result.count}', flush=True)
	sys.exit(0 if result.wasSuccessful() else 1)


if __name__ == '__main__':
	main()
