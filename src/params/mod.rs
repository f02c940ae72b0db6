//! From tables of the experiment file to the structs that stages and the experiment are made of: one struct a table, which
//! is all there is to say about its keys. Knows no key, no stage and nothing outside the file.

mod document;
mod lists;
pub(crate) mod macros;
pub mod presets;
pub mod problem;
mod reader;
mod schema;
mod table;
mod tables;
pub mod tree;
mod value;

use std::ops::Range;

pub(crate) use macros::{params, words};
pub use problem::{Problem, Problems};
pub use reader::{Chosen, Form, Read, Reader, Reported, Scope};
pub use schema::schema;
pub use table::{Case, Default, Key, Kind, Place, Placed, Table, Texts, Type, When, Words, bare};
pub use tree::{Entry, Node};
pub use value::{Params, Parts, TextOrFields, Value, filled, inline, maybe_filled};

/// Bytes of the experiment file, or of a `--set` behind it (see [`Problems`]), that something was read from.
pub type Span = Range<usize>;
