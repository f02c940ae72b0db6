//! Parses tables of the experiment file into the structs used by the stages and the experiment: one struct per table,
//! which is the single definition of its keys. Independent of particular keys, of stages, and of everything outside
//! the file.

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

/// A byte range of the experiment file, or of a `--set` after it (see [`Problems`]).
pub type Span = Range<usize>;
