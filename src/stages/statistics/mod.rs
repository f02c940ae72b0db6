//! What every claim needs beside its number: resampling, intervals, p-values. Knows no emotion and no model.

pub mod cells;
pub mod correlation;
pub mod design;
pub mod draws;
pub mod grouping;
pub mod interval;
pub mod moved;
pub mod parts;
pub mod shares;
pub mod spectrum;
pub mod sums;
mod wide;

pub use design::Design;
pub use interval::Interval;
