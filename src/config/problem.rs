//! One thing that is wrong in an experiment file, and how it is shown.

use std::path::PathBuf;

use super::Span;

/// Something wrong, where, and what to do about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    pub span: Span,
    pub message: String,
    /// The remedy, as a sentence.
    pub hint: Option<String>,
}

/// Every problem of one file, in the order of its lines.
#[derive(Clone, Debug, PartialEq)]
pub struct Problems {
    pub file: PathBuf,
    pub text: String,
    pub list: Vec<Problem>,
}
