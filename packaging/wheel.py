# SPDX-License-Identifier: MIT OR Apache-2.0
"""The setup.py of the binary wheel: it holds a native library but no extension module, so it is for any Python 3."""

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel


class AnyPython(bdist_wheel):
    def get_tag(self):
        return "py3", "none", super().get_tag()[2]


class Native(Distribution):
    def has_ext_modules(self):
        return True


setup(cmdclass={"bdist_wheel": AnyPython}, distclass=Native)
