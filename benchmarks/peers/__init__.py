"""The servers of other libraries that ``benchmarks.fanout`` and ``benchmarks.cluster`` compare with ours."""
