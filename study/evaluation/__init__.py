"""Commands that measure: chosen trials or any checkpoint on test, new seeds, a data set's separation."""
