//! The integration tests, in one binary and one process.

mod check;
