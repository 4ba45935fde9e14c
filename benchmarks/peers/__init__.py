"""The servers of other libraries that ``benchmarks.fanout`` compares with ours."""
