# SPDX-License-Identifier: MIT
"""What bench/run and examples/demo share: allocators, programs, measuring, reporting."""
