//! The statistics behind every reported number: resampling, intervals, p-values. Independent of emotions and models.

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
