//! Trains the demonstration model; knows nothing of experiments.
fn main() {}
