"""The pages as a visitor has them: the reference page and README's, in a real Chromium."""
