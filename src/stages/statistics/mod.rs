//! What every claim needs beside its number: resampling, intervals, p-values. Knows no emotion and no model.

pub mod cells;
pub mod correlation;
pub mod draws;
pub mod interval;
pub mod resamples;
pub mod spectrum;

pub use interval::Interval;
