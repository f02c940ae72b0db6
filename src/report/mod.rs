//! Tables and figures -> one self-contained HTML file. Knows no analysis by name.

pub mod figure;
