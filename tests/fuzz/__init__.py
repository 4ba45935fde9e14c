"""Coverage-guided fuzzing of what reads hostile text: ``python -m tests.fuzz``; `test_fuzz_parsers` runs it small."""
