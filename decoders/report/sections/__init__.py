"""The sections of the page, one module each: `section(results)` returns a `Section`."""
