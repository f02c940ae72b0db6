//! Progress output of a run, to stderr and never to stdout. Independent of plans.

mod bars;
mod pace;
mod plain;

use std::io::IsTerminal as _;

pub use bars::Bars;
pub use plain::{Ends, Plain, Silent};

/// Receives the events of a run, one node at a time. Notes may come from several threads.
pub trait Progress: Sync {
    /// `node` begins: `total` pieces of work, each one a `piece` ("stories", "layers").
    fn begin(&self, node: &str, total: usize, piece: &str);
    /// `done` pieces of the node are finished, counted from its beginning; fractional within a piece.
    fn at(&self, done: f64);
    /// The node has ended; `outcome` is a few words.
    fn end(&self, outcome: &str);
    /// A line for people, at any time.
    fn note(&self, line: &str);
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Style {
    /// Bars on a terminal, plain lines elsewhere.
    Auto,
    Bars,
    Plain,
    /// One line when a node ends.
    Ends,
    None,
}

/// The progress display for `style`.
pub fn start(style: Style) -> Box<dyn Progress> {
    match style {
        Style::Auto if std::io::stderr().is_terminal() => Box::new(Bars::new()),
        Style::Bars => Box::new(Bars::new()),
        Style::Auto | Style::Plain => Box::new(Plain::new()),
        Style::Ends => Box::new(Ends::new()),
        Style::None => Box::new(Silent),
    }
}
